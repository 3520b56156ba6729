// Package hipache implements the contract of the Hipache reverse proxy, as Hipache 0.2.8 to
// 0.4.0 and PlanB keep it in Redis: the names and contents of the keys, and safe changes of a
// list that a proxy is reading. Use it to read a proxy's routing (Reader), to mark a failing
// backend as a proxy does (Marker), or to receive the marks of proxies (Listen). It knows vhosts
// and backends, not services.
//
// # Keys
//
//	key                      type    written by          content
//	<prefix>frontend:<host>  list    Rollcall            an identifier, then the URLs of the backends
//	<prefix>dead:<host>      set     Rollcall, proxies   positions of backends without traffic, from 0
//	dead                     channel proxies             "host;url;position;number of URLs", never prefixed
//	hchecker_ping            string  Rollcall (optional) Unix seconds; never prefixed
//
// The prefix is literal text: Hipache adds no separator. The host of a dead set is the requested
// host, even if a wildcard's list answered. Marks of a wildcard's backends are therefore in sets
// whose names cannot be listed in advance.
//
// # Consequences
//
// A dead set contains positions. If a list became shorter or changed its order while a proxy has
// requests in flight, a late mark would hit a healthy backend. Backends are therefore only
// appended. A backend to be removed is marked first, so that the next request avoids it. After a
// settle time it is removed in one atomic step, which translates the marks of the others.
// frontend.lua implements this; every script that changes a list runs it.
package hipache
