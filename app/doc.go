// Package app is Rollcall's domain: services, their instances, and the rules of their health. It
// imports the standard library only and does no I/O. Package registry has the verbs that change the
// registry by these rules.
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
// A failed instance was not healthy within its grace. Rollcall still probes it, and it becomes
// healthy when it passes. Draining is final: no result makes a draining instance healthy again.
//
// # Sick or gone
//
// An unhealthy or failed instance is sick while its address answers: it sends a status, speaks
// another protocol, or accepts the connection (see Code.Answered). An instance that reports by
// itself is sick while it sends reports, of either kind. It is gone if it did not answer during
// its whole forget period: each connection was refused, timed out or found no route, or it sent no
// report.
//
//   - A gone instance is removed, even if it is the last one of its vhost.
//   - A sick instance is removed after its forget period if each of its vhosts has another
//     backend: a healthy instance, or a foreign entry without a mark. Otherwise another forget
//     period begins, and so it does for the other sick instances of the vhost.
//   - An instance without vhosts is removed after its forget period, sick or gone.
//   - The last routable backend of a vhost stays listed while it is registered, unless fail_open
//     is false or it never passed. Rollcall does not mark it, and removes the mark of a proxy when
//     the proxy announces it.
//
// # Guarantees
//
//   - An instance gets no traffic before its first pass. A check of kind none has no probe: the
//     registration counts as the pass.
//   - The pure functions of state.go are the only place where a state changes. The store writes
//     the new state in one atomic step together with the frontends (see registry.Store).
//   - A write names the revision that it was decided on. Of two writers that decided on the same
//     revision, one gets ErrConflict, reads again and decides again.
//   - An instance is removed only because a probe of it failed, because its lease ran out while
//     the registry was reachable, or because a caller removed it.
package app
