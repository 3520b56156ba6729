package input

import "fmt"

// A HintError is an error together with the advice that its caller gets.
type HintError struct {
	Err  error
	Want string // the correct input or the next step
}

// Error implements error.
func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the advice.
func (e *HintError) Unwrap() error { return e.Err }

// Hint returns an error with advice.
func Hint(err error, want string) error { return &HintError{err, want} }

// Quote returns a caller's text in quotes, cut to 80 characters and without control characters.
func Quote(s string) string { return fmt.Sprintf("%.80q", s) }

// clip is Quote without the quotes, unless the text is empty.
func clip(s string) string {
	q := Quote(s)
	if s == "" {
		return q
	}
	return q[1 : len(q)-1]
}
