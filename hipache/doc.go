// Package hipache is the contract of the Hipache reverse proxy, as its versions
// 0.2.8 to 0.4.0 and PlanB keep it in Redis: what the keys are called, what they
// hold, and how a list of backends is changed under a proxy that is reading it. It
// knows vhosts and backends, not services.
//
// # The keys
//
//	key                      type    written by          what
//	<prefix>frontend:<host>  list    us                  an identifier, then one backend URL per slot
//	<prefix>dead:<host>      set     us and the proxies  slots that get no traffic; 0 is the first URL
//	dead                     channel the proxies         "host;url;slot;number of URLs", never prefixed
//	hchecker_ping            string  us, if asked to     Unix seconds; never prefixed
//
// The prefix is literal text: Hipache puts no separator behind it. The host of a
// dead set is the host that was asked for, also when a wildcard answered, so marks
// of a wildcard's backends live under names nobody can list beforehand.
//
// # What follows from it
//
// The dead set holds positions. A list that gets shorter or is re-sorted while a
// proxy has requests in flight makes late marks hit healthy backends, so entries
// are only ever appended, and one that has to go is marked first (the next request
// avoids it) and taken out a settle time later, in one atomic step that translates
// the marks of the others. frontend.lua does this; everything that changes a list
// runs it.
package hipache
