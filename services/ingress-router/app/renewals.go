package app

import (
	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/renewintent/redisqueue"
)

// Publisher hands notices that sandboxes are in use to those who move deadlines. Publish gets one in the JSON form of OpenSandbox 1.1.1,
// bounds its own time and may be called concurrently.
type Publisher = renewintent.Publisher

// maxIntents bounds the list of notices while nobody takes them: they lose their meaning after five minutes.
const maxIntents = 65536

// RedisPublisher returns a Publisher on a list in Redis, which consumers take from at the tail. The caller owns client.
func RedisPublisher(client redis.UniversalClient, key string) Publisher {
	return redisqueue.New(client, key, maxIntents)
}
