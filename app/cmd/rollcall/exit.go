package main

import (
	"context"
	"errors"
	"net/http"

	"rollcall/app/client"
)

// The exit codes of commands.
const (
	exitNo          = 1 // the answer is no: not found, not healthy in time, a finding; or any other failure
	exitUsage       = 2
	exitUnreachable = 3 // no answer, or Rollcall cannot reach its registry
	exitRefused     = 4 // Rollcall refuses the call: a token, a field, a conflict
	exitInterrupted = 130
)

// A usageError is about the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// An answerNo is the answer no to the question of a command.
type answerNo struct{ error }

func (e answerNo) Unwrap() error { return e.error }

// exitCode returns the exit code for the error of a command.
func exitCode(ctx context.Context, err error) int {
	var refused *client.Error
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.As(err, new(answerNo)):
		return exitNo
	case errors.As(err, &refused):
		return exitCodeOf(refused.Status)
	case errors.Is(err, client.ErrNoAnswer):
		return exitUnreachable
	}
	return exitNo
}

func exitCodeOf(status int) int {
	switch {
	case status == http.StatusNotFound:
		return exitNo
	case status >= http.StatusInternalServerError:
		return exitUnreachable
	}
	return exitRefused
}
