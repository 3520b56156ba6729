package app

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // end users or the registry suffer, or will at the next restart
	Warning Severity = "warning" // something is not as it should be, and nobody suffers yet
)

// Finding is something wrong with a Redis, its settings or its keys.
type Finding struct {
	Severity Severity
	What     string
	Fix      string // what to do about it
}
