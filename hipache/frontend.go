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

// SettleMarkTTL is the time to live of a dead set with our own marks. A mark has to last until its backend leaves the
// list, also if Redis's clock is set forward by hours meanwhile. A proxy that marks a further backend shortens it.
const SettleMarkTTL = 24 * time.Hour
