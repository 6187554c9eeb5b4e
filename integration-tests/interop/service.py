"""A service in Python beside cachalot, steered by lines of JSON: [method, arguments...] in, what it gives out."""

import json
import sys

from recipe import CHANNEL, Cache


class Service(Cache):
    def __init__(self, url):
        super().__init__(url)
        self.messages = self.redis.pubsub()
        self.messages.subscribe(CHANNEL)
        while self.messages.get_message(timeout=30)["type"] != "subscribe":
            pass

    def heard(self):
        """The next message on the channel; None if there is none for long."""
        message = self.messages.get_message(timeout=30)
        return message and json.loads(message["data"])

    def command(self, *words):
        return self.redis.execute_command(*words)

    def load(self, key, value, ttl):
        """As get_or_load; and whether it was loaded here."""
        loads = []

        def load():
            loads.append(key)
            return value

        return [self.get_or_load(key, load, ttl), len(loads)]


def main():
    service = Service(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        if method == "publish":
            answer = service.publish(**arguments[0])
        else:
            answer = getattr(service, method)(*arguments)
        print(json.dumps(answer), flush=True)


main()
