package edge

import "time"

// SetFiles limits the files that connections may use.
func (o *Options) SetFiles(n int) { o.files = n }

// SetRedisRetry sets the time between attempts to reach Redis again.
func (o *Options) SetRedisRetry(d time.Duration) { o.redisRetry = d }
