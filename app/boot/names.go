package boot

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// clientVariables are the variables of the entrypoint hooks and of the commands that call the API. A container may have them
// beside the variables of a server.
var clientVariables = strings.Fields(`
	ROLLCALL_URL ROLLCALL_TOKEN ROLLCALL_SERVICE ROLLCALL_PORT ROLLCALL_HOST ROLLCALL_ADDRESS ROLLCALL_ID ROLLCALL_BOOT
	ROLLCALL_TAG ROLLCALL_META ROLLCALL_WEIGHT ROLLCALL_REPLACES ROLLCALL_FAIL_OPEN
	ROLLCALL_HEALTH ROLLCALL_HEALTH_CMD ROLLCALL_HEALTH_HOST ROLLCALL_HEALTH_METHOD ROLLCALL_HEALTH_HEADER
	ROLLCALL_TLS_SKIP_VERIFY ROLLCALL_TLS_SERVER_NAME ROLLCALL_EXPECT ROLLCALL_INTERVAL ROLLCALL_TIMEOUT ROLLCALL_RISE ROLLCALL_FALL
	ROLLCALL_GRACE ROLLCALL_FORGET ROLLCALL_HOLD ROLLCALL_REASSERT ROLLCALL_ENV_FILE ROLLCALL_STOP_SIGNAL`)

// linkVariable matches the variables that Kubernetes and Docker links set for a service called rollcall or rollcall-web.
// Variables that end in _PORT or _NAME count only with a value such as tcp://10.0.0.1:8080 or /web/rollcall.
var linkVariable = regexp.MustCompile(`^ROLLCALL(_[A-Z0-9_]+)?(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?` +
	`|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?|_ENV_[A-Za-z0-9_]+|_PORT=(tcp|udp|sctp)://.*|_NAME=/.*)$`)

// checkName returns an error for an unknown ROLLCALL_ variable. Otherwise a server with a misspelt
// ROLLCALL_ADMIN_TOKEN would run without a token.
func checkName(name, value string) error {
	if !strings.HasPrefix(name, "ROLLCALL_") || linkVariable.MatchString(name) || linkVariable.MatchString(name+"="+value) {
		return nil
	}
	if near, known := nearest(name); !known {
		if near == "" {
			return fmt.Errorf("config: there is no variable %s; docs/configuration.md lists all of them", name)
		}
		return fmt.Errorf("config: there is no variable %s; did you mean %s?", name, near)
	}
	return nil
}

// MisspeltClientVariables returns a line for each variable with a name that differs in one letter, or in two swapped
// letters, from a variable of the entrypoint hook.
func MisspeltClientVariables(environ []string) (lines []string) {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if checkName(name, value) == nil {
			continue
		}
		for _, known := range clientVariables {
			if isTypo(name, known) {
				lines = append(lines, fmt.Sprintf("there is no variable %s; did you mean %s?", name, known))
				break
			}
		}
	}
	return lines
}

// isTypo reports whether two names differ in one letter or in two swapped neighbours.
func isTypo(a, b string) bool { return Edits(a, b) <= 1 }

// nearest returns the variable with the most similar name, or "" if no name is similar, and whether the names are equal.
func nearest(name string) (near string, known bool) {
	all := slices.Clone(clientVariables)
	for f := range reflect.TypeFor[Config]().Fields() {
		all = append(all, f.Tag.Get("env"))
	}
	near = slices.MinFunc(all, func(a, b string) int { return Edits(name, a) - Edits(name, b) })
	if Edits(name, near) > len(near)/4 {
		return "", false
	}
	return near, near == name
}
