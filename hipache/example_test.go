package hipache_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
)

func ExampleReader() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer rdb.Close()
	frontend, err := hipache.NewReader(rdb, hipache.Keys{}).Lookup(context.Background(), "www.shop.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, b := range frontend.Backends {
		fmt.Println(b.Position, b.URL, b.Dead)
	}
}

func ExampleLookup() {
	for _, vhost := range hipache.Lookup("www.shop.example") {
		fmt.Println(hipache.Keys{}.Frontend(vhost))
	}
	// Output:
	// frontend:www.shop.example
	// frontend:*.shop.example
	// frontend:*.example
	// frontend:*
}

func ExampleParseAnnouncement() {
	a, ok := hipache.ParseAnnouncement("www.shop.example;http://10.0.0.7:8080/;1;3")
	fmt.Println(a.Host, a.URL, a.Position, a.Len, ok)
	// Output: www.shop.example http://10.0.0.7:8080/ 1 3 true
}
