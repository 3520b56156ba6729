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
//	any ── drain / deregister / replaced ──▶ draining ──period over▶ gone
//	unhealthy or failed for forget, see below ─────────────────────▶ gone
//
// A failed instance was not healthy within its grace. It is still probed and
// becomes healthy when it passes. Draining is final: no result brings a draining
// instance back.
//
// # Sick or gone
//
// An unhealthy or failed instance is sick while it answers something: it sends a status,
// speaks another protocol, or accepts the connection (see Code.Answered); or, if it reports
// by itself, while it sends reports of any kind. It is gone when nothing answered for its
// whole forget period: connections were refused, timed out or unreachable, or no report came.
//
//   - A gone instance is removed, also when it is the last of its vhost.
//   - A sick instance is removed after its forget period if each of its vhosts has another
//     backend: a healthy instance, or a foreign entry that no proxy has marked. If not, it
//     gets another forget period, and so do all others that are sick with it.
//   - An instance without vhosts is removed after its forget period, sick or gone.
//   - The last routable backend of a vhost stays listed while it is registered, unless
//     fail_open is false or it never passed. It has no mark: not ours, and a proxy's is
//     removed when the proxy announces it.
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
