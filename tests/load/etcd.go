package main

import (
	"context"
	"io"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdCaller makes calls over an etcd client of its own. The verb "put" takes a lease and puts a key under it, "range" reads
// ten keys.
func etcdCaller(addr, verb string) (caller, io.Closer, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: patience})
	if err != nil {
		return nil, nil, err
	}
	return func(n int) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if verb == "range" {
			_, err := c.Get(ctx, "instance/", clientv3.WithPrefix(), clientv3.WithLimit(10))
			return err
		}
		lease, err := c.Grant(ctx, 60)
		if err != nil {
			return err
		}
		_, err = c.Put(ctx, "instance/"+strconv.Itoa(n), `{"service":"web","address":"127.`+addressOf(n)+`:80"}`, clientv3.WithLease(lease.ID))
		return err
	}, c, nil
}
