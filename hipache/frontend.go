package hipache

import (
	_ "embed"
	"time"
)

// FrontendLua is the source of the Lua table "frontend". Scripts that change routing are
// loaded with it in front; see the head of frontend.lua.
//
//go:embed frontend.lua
var FrontendLua string

// SettleTime is the default time that a marked backend stays in its list. It is longer than
// any proxy caches a list and than a usual request takes. A late mark by a request in flight
// therefore still finds the backend at its position.
const SettleTime = 5 * time.Second

// SettleMarkTTL is the time to live of a dead set with Rollcall's own marks. A mark must last
// until its backend leaves the list, even if Redis's clock is set forward by hours meanwhile.
// A proxy that marks another backend shortens it.
const SettleMarkTTL = 24 * time.Hour
