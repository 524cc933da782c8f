"""The same for the n-gram worker."""

import sgl_kernel


def reconstruct_indices_from_tree_mask(
    tree_mask, lengths, positions, index, next_token, next_sibling, num_requests, num_tokens
):
    """Lays out trees whose masks say which nodes are whose ancestors."""
    masks = tree_mask.reshape(-1)[: num_requests * num_tokens**2].reshape(num_requests, num_tokens, num_tokens).bool()
    for request in range(num_requests):
        parent_of = []
        for node in range(num_tokens):
            ancestors = masks[request, node, :node].nonzero().flatten().tolist()
            parent_of.append(ancestors[-1] if ancestors else sgl_kernel.NO_NODE)
            positions[request * num_tokens + node] = lengths[request] + len(ancestors)
            index[request, node] = request * num_tokens + node
        sgl_kernel._link(parent_of, next_token[request], next_sibling[request])
