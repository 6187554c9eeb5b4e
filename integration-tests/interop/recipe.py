import json
import math
import random
import time
import uuid

import redis

CHANNEL = "cache:invalidate"
UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Cache:
    def __init__(self, url):
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    # Values: as they are, for early refresh, or to be served stale for a while.

    def set(self, key, value, ttl):
        self.redis.setex(key, ttl, json.dumps(value))

    def set_early(self, key, value, ttl, delta):
        value = {"value": value, "_expiry": time.time() + ttl, "_delta": delta}
        self.redis.setex(key, ttl, json.dumps(value))

    def set_stale(self, key, value, ttl, window):
        value = {"value": value, "_fresh": time.time() + ttl}
        self.redis.setex(key, ttl + window, json.dumps(value))

    def get(self, key):
        """The value and whether it is fresh; None if there is none."""
        text = self.redis.get(key)
        if text is None:
            return None
        value, members = json.loads(text), set()
        if isinstance(value, dict):
            members = set(value)
        if members == {"value", "_expiry", "_delta"}:
            early = -value["_delta"] * math.log(1.0 - random.random())
            return value["value"], time.time() + early < value["_expiry"]
        if members == {"value", "_fresh"}:
            return value["value"], time.time() < value["_fresh"]
        return value, True

    # One load at a time.

    def lock(self, key, seconds=30):
        token = uuid.uuid4().hex
        return token if self.redis.set(f"lock:{key}", token, nx=True, ex=seconds) else None

    def unlock(self, key, token):
        return bool(self.redis.eval(UNLOCK, 1, f"lock:{key}", token))

    def get_or_load(self, key, load, ttl):
        while True:
            found = self.get(key)
            if found and found[1]:
                return found[0]
            token = self.lock(key)
            if token:
                try:
                    # Somebody may have loaded it since.
                    found = self.get(key)
                    if found and found[1]:
                        return found[0]
                    value = load()
                    self.set(key, value, ttl)
                    return value
                finally:
                    self.unlock(key, token)
            if found:
                return found[0]
            time.sleep(0.02)

    # Tags, and what is no longer good. Deleting the lock with a key, and the tokens ("#...") of a tag before
    # its keys, revokes what cachalot has in flight; without them only its other promises hold.

    def tag(self, key, *tags):
        for tag in tags:
            self.redis.sadd(f"tag:{tag}", key)

    def tagged(self, tag):
        return sorted(self.redis.smembers(f"tag:{tag}"))

    def remove(self, key):
        self.redis.delete(key, f"lock:{key}")
        self.publish(key=key)

    def remove_tag(self, tag):
        self.redis.delete("#")
        self.redis.delete(f"#{tag}")
        for key in self.redis.sscan_iter(f"tag:{tag}", count=500):
            self.redis.unlink(key, f"lock:{key}")
            self.redis.srem(f"tag:{tag}", key)
        self.publish(tag=tag)

    def remove_pattern(self, pattern):
        for prefix in ("lock:", ""):
            for key in self.redis.scan_iter(prefix + pattern, count=1000):
                self.redis.unlink(key)
        self.publish(pattern=pattern)

    def publish(self, **subject):
        self.redis.publish(CHANNEL, json.dumps(subject))
