"""SGLang's CPU kernels that the tiny models need, in plain torch."""

from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

NO_NODE = -1


def assign_req_to_token_pool_cpu(requests, slots_of, starts, ends, slots, _row_length):
    """Writes the new slots of every request into its row of the map, from `start` to `end`."""
    taken = 0
    for request, start, end in zip(requests.tolist(), starts.tolist(), ends.tolist(), strict=True):
        slots_of[request, start:end] = slots[taken : taken + end - start].to(slots_of.dtype)
        taken += end - start


def assign_extend_cache_locs_cpu(requests, slots_of, starts, ends, out, _row_length):
    """The reverse: reads the requests' slots from `start` to `end`, one after the other."""
    taken = 0
    for request, start, end in zip(requests.tolist(), starts.tolist(), ends.tolist(), strict=True):
        out[taken : taken + end - start] = slots_of[request, start:end].to(out.dtype)
        taken += end - start


def assign_draft_cache_locs_contiguous_cpu(requests, slots_of, lengths, out, _row_length, topk, num_steps):
    width = topk * num_steps
    assign_extend_cache_locs_cpu(requests, slots_of, lengths, lengths + width, out, _row_length)


def build_draft_decode_metadata_cpu(slots_of, requests, lengths, topk, num_steps, row_length):
    """Returns a map with a row for every branch of every request: its prefix, then the branch's own slots."""
    rows = slots_of.new_zeros((len(requests) * topk, row_length))
    for at, (request, length) in enumerate(zip(requests.tolist(), lengths.tolist(), strict=True)):
        for branch in range(topk):
            row, first = rows[at * topk + branch], length + branch * num_steps
            row[:length] = slots_of[request, :length]
            row[length : length + num_steps] = slots_of[request, first : first + num_steps]
    return rows


def fill_bonus_tokens_cpu(accepted, lengths, out, stride):
    """Takes each request's last accepted token."""
    rows = accepted.reshape(-1, stride)
    out[: len(lengths)] = rows[torch.arange(len(lengths)), lengths.long() - 1]


def fill_accept_out_cache_loc_cpu(indices, slots, out, size=None):
    """Takes the slots of the accepted tokens and closes the gaps."""
    kept = indices.reshape(-1)[:size]
    kept = kept[kept != NO_NODE].long()
    out[: len(kept)] = slots[kept]


def copy_all_layer_kv_cache_cpu(addresses, strides, targets, sources):
    """Copies slots within every layer's buffer; a stride is a slot's size in bytes."""
    import ctypes

    for address, stride in zip(addresses.tolist(), strides.tolist(), strict=True):
        held = [ctypes.string_at(address + source * stride, stride) for source in sources.tolist()]
        for target, content in zip(targets.tolist(), held, strict=True):
            ctypes.memmove(address + target * stride, content, stride)


def build_tree_kernel_efficient_cpu(
    parents, selected, lengths, mask, positions, index, next_token, next_sibling, topk, depth, num_tokens, mask_mode
):
    """Lays out each request's tree of drafts: node 0 is the verified token, nodes 1.. are the selected drafts.

    A draft's number says which node of the step before it hangs on, by that node's place in `parents`.
    """
    assert mask_mode == 1  # rows over the tree alone
    masks = mask.reshape(-1, num_tokens, num_tokens)
    for request, (numbers, length) in enumerate(zip(selected.tolist(), lengths.tolist(), strict=True)):
        parent_of = [NO_NODE]
        for number in numbers:
            place = number // topk
            parent_of.append(0 if place == 0 else 1 + numbers.index(int(parents[request, place])))
        paths = [[0]]
        for node in range(1, num_tokens):
            path, at = [], node
            while at != NO_NODE:
                path.append(at)
                at = parent_of[at]
            paths.append(path)
        masks[request] = False
        for node, path in enumerate(paths):
            masks[request, node, path] = True
            positions[request * num_tokens + node] = length + len(path) - 1
            index[request, node] = request * num_tokens + node
        _link(parent_of, next_token[request], next_sibling[request])


def _link(parent_of, next_token, next_sibling):
    """Writes every node's first child and next sibling."""
    next_token[:] = next_sibling[:] = NO_NODE
    for node in range(len(parent_of)):
        children = [child for child, parent in enumerate(parent_of) if parent == node]
        if children:
            next_token[node] = children[0]
        for child, sibling in pairwise(children):
            next_sibling[child] = sibling


def verify_tree_greedy_cpu(
    predicts,
    accept_index,
    accept_token_num,
    candidates,
    retrive_index,
    retrive_next_token,
    retrive_next_sibling,
    target_predict,
):
    """Walks each request's tree along the target's own choices; the last node's choice is the bonus token."""
    choices = target_predict.reshape(-1)
    for request in range(len(candidates)):
        node = num_accepted = 0
        accept_index[request, 0] = retrive_index[request, 0]
        while True:
            here = int(retrive_index[request, node])
            choice = predicts[here] = choices[here]
            if num_accepted + 1 == accept_index.shape[1]:
                break
            child = int(retrive_next_token[request, node])
            while child != NO_NODE and candidates[request, child] != choice:
                child = int(retrive_next_sibling[request, child])
            if child == NO_NODE:
                break
            node, num_accepted = child, num_accepted + 1
            accept_index[request, num_accepted] = retrive_index[request, node]
        accept_token_num[request] = num_accepted


def rotate_input_ids_cpu(*_):
    raise NotImplementedError


segment_packbits = None


def _attend(query, keys, values, slots, mask, scaling):
    """Returns the attention of one request's queries (T, heads, size) to the tokens in those slots."""
    groups = query.shape[1] // keys.shape[1]
    key, value = (buffer[slots].repeat_interleave(groups, dim=1).transpose(0, 1) for buffer in (keys, values))
    out = scaled_dot_product_attention(query.transpose(0, 1), key, value, attn_mask=mask, scale=scaling)
    return out.transpose(0, 1)


LIBRARY = torch.library.Library("sgl_kernel", "DEF")
LIBRARY.define(
    "extend_attention_cpu(Tensor q, Tensor? k, Tensor? v, Tensor(a!) o, Tensor key_buffer, Tensor value_buffer, "
    "float k_scale, float v_scale, Tensor req_to_token, Tensor req_pool_indices, Tensor seq_lens, "
    "Tensor extend_seq_lens, Tensor extend_start_loc, int max_extend_len, float scaling, float logit_cap, "
    "bool is_cross, int window, Tensor? encoder_lens, Tensor? sinks, Tensor? tree_mask, bool is_causal) -> ()"
)
LIBRARY.define(
    "decode_attention_cpu(Tensor q, Tensor(b!) key_buffer, Tensor(c!) value_buffer, float k_scale, float v_scale, "
    "Tensor(a!) o, Tensor? k, Tensor? v, Tensor cache_loc, Tensor attn_logits, Tensor req_to_token, "
    "Tensor req_pool_indices, Tensor seq_lens, float scaling, float logit_cap, bool is_cross, int window, "
    "Tensor? encoder_lens, Tensor? sinks) -> ()"
)


@torch.library.impl(LIBRARY, "extend_attention_cpu", "CPU")
def extend_attention_cpu(
    q, k, v, o, keys, values, k_scale, v_scale, slots_of, requests, lengths, new_lengths, starts, longest, scaling,
    logit_cap, is_cross, window, encoder_lengths, sinks, tree_mask, is_causal,
):  # fmt: skip
    """Of the new tokens of each request, whose keys and values are in the cache already."""
    assert is_causal
    assert not is_cross
    for at, (request, length, new, start) in enumerate(
        zip(requests.tolist(), lengths.tolist(), new_lengths.tolist(), starts.tolist(), strict=True)
    ):
        mask = torch.ones((new, length), dtype=torch.bool)
        own = torch.ones((new, new), dtype=torch.bool).tril()
        mask[:, length - new :] = own if tree_mask is None else tree_mask.reshape(-1, new, new)[at]
        slots = slots_of[request, :length].long()
        o[start : start + new] = _attend(q[start : start + new], keys, values, slots, mask, scaling)


@torch.library.impl(LIBRARY, "decode_attention_cpu", "CPU")
def decode_attention_cpu(
    q, keys, values, k_scale, v_scale, o, k, v, new_slots, logits, slots_of, requests, lengths, scaling, logit_cap,
    is_cross, window, encoder_lengths, sinks,
):  # fmt: skip
    """Of one new token of each request; its key and value are put into the cache first."""
    assert not is_cross
    if k is not None:
        keys[new_slots] = k.reshape(-1, *keys.shape[1:])
        values[new_slots] = v.reshape(-1, *values.shape[1:])
    for at, (request, length) in enumerate(zip(requests.tolist(), lengths.tolist(), strict=True)):
        slots = slots_of[request, :length].long()
        o[at : at + 1] = _attend(q[at : at + 1], keys, values, slots, None, scaling)
