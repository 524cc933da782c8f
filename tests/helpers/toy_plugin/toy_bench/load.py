"""The toy load: one conversation after another."""

import asyncio


def create(config, seed, num_conversations):
    return OneByOne(config.rest_s, num_conversations)


class OneByOne:
    def __init__(self, rest_s, num_conversations):
        self.num_conversations = num_conversations
        self._rest_s = rest_s

    async def run(self, conversations, start):
        for conversation in conversations:
            await start(conversation, None)
            await asyncio.sleep(self._rest_s)

    async def wait_for_turn(self, ended_ns):
        return None
