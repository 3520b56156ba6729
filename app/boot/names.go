package boot

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// clientVariables are the variables of the entrypoint hooks and of the commands that call the API.
// A container may have them beside those of a server.
var clientVariables = strings.Fields(`
	ROLLCALL_URL ROLLCALL_TOKEN ROLLCALL_SERVICE ROLLCALL_PORT ROLLCALL_HOST ROLLCALL_ADDRESS ROLLCALL_ID ROLLCALL_BOOT
	ROLLCALL_TAG ROLLCALL_META ROLLCALL_WEIGHT ROLLCALL_REPLACES ROLLCALL_FAIL_OPEN
	ROLLCALL_HEALTH ROLLCALL_HEALTH_CMD ROLLCALL_EXPECT ROLLCALL_INTERVAL ROLLCALL_TIMEOUT ROLLCALL_RISE ROLLCALL_FALL
	ROLLCALL_GRACE ROLLCALL_FORGET ROLLCALL_HOLD ROLLCALL_REASSERT ROLLCALL_ENV_FILE ROLLCALL_STOP_SIGNAL`)

// linkVariable matches the variables that Kubernetes and Docker links set for a service
// called rollcall or rollcall-web: they are not misspelt. Those that end in _PORT or _NAME
// are told by their value, tcp://10.0.0.1:8080 or /web/rollcall.
var linkVariable = regexp.MustCompile(`^ROLLCALL(_[A-Z0-9_]+)?(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?` +
	`|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?|_ENV_[A-Za-z0-9_]+|_PORT=(tcp|udp|sctp)://.*|_NAME=/.*)$`)

// checkName returns an error for a variable that is meant for Rollcall and that Rollcall does not
// know: a server whose ROLLCALL_ADMIN_TOKEN is misspelt would otherwise run without one.
func checkName(name, value string) error {
	if !strings.HasPrefix(name, "ROLLCALL_") || linkVariable.MatchString(name) || linkVariable.MatchString(name+"="+value) {
		return nil
	}
	known := slices.Clone(clientVariables)
	for f := range reflect.TypeFor[Config]().Fields() {
		known = append(known, f.Tag.Get("env"))
	}
	if slices.Contains(known, name) {
		return nil
	}
	nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, nearest) > len(nearest)/4 {
		return fmt.Errorf("config: there is no variable %s; README lists all of them", name)
	}
	return fmt.Errorf("config: there is no variable %s; did you mean %s?", name, nearest)
}

// distance is the Levenshtein distance of two names: how many bytes have to be added, removed or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
