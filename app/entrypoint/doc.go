// Package entrypoint runs a command as the entrypoint of a container: it keeps the command registered while it runs,
// passes signals on, and drains the command before a stop signal reaches it. docker/rollcall.sh does the same in shell.
package entrypoint
