package app

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // end users or the registry suffer, or will at the next restart
	Warning Severity = "warning" // a fault that affects no user yet
)

// Finding is a fault of a Redis, of its settings or of its keys.
type Finding struct {
	Severity Severity
	What     string
	Fix      string // how to repair it
}
