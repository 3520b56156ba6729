package main

import (
	"context"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// etcdCaller makes the calls of an etcd client: "put" takes a lease and puts a key under it, "range" reads ten keys. The
// three messages are encoded by hand.
func etcdCaller(addr, verb string) (caller, io.Closer, error) {
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return nil, nil, err
	}
	return func(n int) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if verb == "range" {
			ten := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "instance/")
			ten = protowire.AppendString(protowire.AppendTag(ten, 2, protowire.BytesType), "instance0")
			ten = protowire.AppendVarint(protowire.AppendTag(ten, 3, protowire.VarintType), 10) // limit
			var found []byte
			return c.Invoke(ctx, "/etcdserverpb.KV/Range", &ten, &found)
		}
		grant := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 60) // TTL
		var granted []byte
		if err := c.Invoke(ctx, "/etcdserverpb.Lease/LeaseGrant", &grant, &granted); err != nil {
			return err
		}
		put := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "instance/"+strconv.Itoa(n))
		put = protowire.AppendString(protowire.AppendTag(put, 2, protowire.BytesType), `{"service":"web","address":"127.`+addressOf(n)+`:80"}`)
		put = protowire.AppendVarint(protowire.AppendTag(put, 3, protowire.VarintType), leaseOf(granted))
		var done []byte
		return c.Invoke(ctx, "/etcdserverpb.KV/Put", &put, &done)
	}, c, nil
}

// leaseOf is the id in an answer: its second field.
func leaseOf(m []byte) uint64 {
	for len(m) > 0 {
		field, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			break
		}
		m = m[n:]
		if field == 2 && kind == protowire.VarintType {
			id, _ := protowire.ConsumeVarint(m)
			return id
		}
		if n = protowire.ConsumeFieldValue(field, kind, m); n < 0 {
			break
		}
		m = m[n:]
	}
	return 0
}

// raw passes messages on as they are.
type raw struct{}

func (raw) Name() string                       { return "proto" }
func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(text []byte, v any) error { *v.(*[]byte) = append([]byte{}, text...); return nil }
