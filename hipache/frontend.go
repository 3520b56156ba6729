package hipache

import (
	_ "embed"
	"time"
)

// FrontendLua is the source of the table "frontend", to be put in front of a script
// that changes who is routed; see the head of frontend.lua.
//
//go:embed frontend.lua
var FrontendLua string

// SettleTime is how long a marked backend stays in its list by default: longer than
// any proxy caches a list and than a normal request takes, so that a late mark by a
// request in flight still finds the backend at the position it was sent to.
const SettleTime = 5 * time.Second

// SettleMarkTTL is how long our own marks last if nobody takes them away: longer than
// SettleTime, so that a mark outlives the wait for its removal.
const SettleMarkTTL = time.Minute
