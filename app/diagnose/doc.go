// Package diagnose words the reasons that people read: why an instance is in its state, why requests go to a
// backend or not, how the proxy answers a Host header, why Redis refuses a call, and the findings of rollcall
// doctor. The registry and its store supply the facts. The reasons in events are written with the change
// itself, by package app.
package diagnose
