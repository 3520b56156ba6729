// Package app is Rollcall's domain: services, their instances, how an instance
// is judged, and the verbs that change the registry. It uses the standard
// library only and does no I/O of its own; ports.go says what it needs from the
// outside.
//
// # States
//
//	register ─▶ starting ─rise passes─▶ healthy ◀─rise─┐
//	               │ grace over            │ fall fails │
//	               ▼                       ▼            │
//	             failed                 unhealthy ──────┘
//	any ── drain / deregister / replaced ──▶ draining ──hold over──▶ gone
//	unhealthy or failed for forget ────────────────────────────────▶ gone
//
// A failed instance was not healthy within its grace. It is still probed and
// becomes healthy when it passes. Draining is final: no result brings a draining
// instance back.
//
// # Guarantees
//
//   - Nothing is routed before its first passing check (a check of kind none has
//     no probe: the registration is the caller's word for it).
//   - A state changes in one place, the pure functions of state.go, and is written
//     in one atomic step together with the proxy's routing lists (see Store).
//   - A write names the revision it was decided on. Of two writers that decided on
//     the same revision one gets ErrConflict, reads again and decides again.
//   - Only an answer removes: an instance leaves because a probe of it failed, its
//     lease ran out while the registry could be reached, or somebody said so.
package app
