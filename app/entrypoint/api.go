//go:build unix

package entrypoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rollcall/app/client"
)

const formType = "application/x-www-form-urlencoded"

// registrar makes the hook's calls. The agent has its own retry rule, so registrations and heartbeats are made once.
type registrar struct {
	once *client.Client
	api  *client.Client // retries while Rollcall cannot reach its registry
}

func newRegistrar(s settings) (registrar, error) {
	// Calls are seconds apart, and no two need the same process.
	o := client.Options{Connect: 2 * time.Second, Wrap: func(c net.Conn) net.Conn { return pipeConn{c} }, NoKeepAlive: true}
	api, err := client.New(s.url, s.token, o)
	if err != nil {
		return registrar{}, err
	}
	o.Once = true
	once, err := client.New(s.url, s.token, o)
	return registrar{once: once, api: api}, err
}

// answer is the outcome of a call: a status, or 0 and an error.
type answer struct {
	status int
	err    error

	ID      string `json:"id"` // of a receipt
	Address string `json:"address"`
	New     bool   `json:"new"`
	Boot    string `json:"boot"`   // of an instance
	Detail  string `json:"detail"` // of a problem
	Field   string `json:"field"`
}

// answerOf reads the answer to a call.
func answerOf(resp *http.Response, err error) (a answer) {
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{err: err}
	}
	_ = json.Unmarshal(body, &a) // another server may have answered: then only the status is known
	a.status = resp.StatusCode
	return a
}

func (a answer) ok() bool { return a.status/100 == 2 }

// idHeld reports whether a registration was refused because another instance has the id.
func (a answer) idHeld() bool { return a.status == http.StatusConflict && a.Field == "id" }

// rejected reports whether the API refused a heartbeat of a registered instance.
func (a answer) rejected() bool {
	return a.status/100 == 4 && a.status != http.StatusNotFound && a.status != http.StatusGone
}

// temporary reports whether the same call may succeed later.
func (a answer) temporary() bool {
	switch a.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.status >= 500
}

// reason describes why a call failed.
func (a answer) reason() string {
	if a.status != 0 {
		if a.Detail != "" {
			return fmt.Sprintf("%s (%d)", a.Detail, a.status)
		}
		return fmt.Sprintf("answered %d", a.status)
	}
	if timeout, ok := errors.AsType[net.Error](a.err); ok && timeout.Timeout() {
		return "no answer in time"
	}
	if call, ok := errors.AsType[*url.Error](a.err); ok {
		return call.Err.Error() // without the URL, which may contain a password
	}
	return a.err.Error()
}

func (r registrar) register(ctx context.Context, form url.Values) answer {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return answerOf(r.once.RegisterWithBody(ctx, nil, formType, strings.NewReader(form.Encode())))
}

func (r registrar) heartbeat(ctx context.Context, id string, passed bool, note string) answer {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status := client.Pass
	if !passed {
		status = client.Fail
	}
	report := client.Report{Status: &status}
	if note != "" {
		report.Note = &note
	}
	return answerOf(r.once.HeartbeatWithFormdataBody(ctx, id, report))
}

func (r registrar) get(ctx context.Context, id string) answer {
	return answerOf(r.api.Instance(ctx, id))
}

// drain drains one start of an instance. It returns at the end of the drain period, or of the context.
func (r registrar) drain(ctx context.Context, id, boot string, period time.Duration) answer {
	hold := period.String()
	a := answerOf(r.api.Drain(ctx, id, &client.DrainParams{Hold: &hold, Boot: &boot}))
	if a.status == http.StatusUnprocessableEntity { // an older Rollcall does not know boot, and drains any start
		a = answerOf(r.api.Drain(ctx, id, &client.DrainParams{Hold: &hold}))
	}
	return a
}

// drainInTurn drains like drain, if at least keep other instances of the service are healthy. Otherwise Rollcall answers
// 409 at once.
func (r registrar) drainInTurn(ctx context.Context, id, boot string, period time.Duration, keep int) answer {
	hold := period.String()
	return answerOf(r.once.Drain(ctx, id, &client.DrainParams{Hold: &hold, Boot: &boot, Keep: &keep}))
}

func (r registrar) deregister(ctx context.Context, id, boot string) answer {
	a := answerOf(r.api.Deregister(ctx, id, &client.DeregisterParams{Boot: &boot}))
	if a.status == http.StatusUnprocessableEntity { // as in drain
		a = answerOf(r.api.Deregister(ctx, id, nil))
	}
	return a
}

// taskAddress returns the address of an Amazon ECS task, from the task's metadata URL. It is empty without an answer, and
// on a bridge network, where the task does not know its outside address.
func (r registrar) taskAddress(ctx context.Context, metadata string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata, nil)
	if err != nil {
		return ""
	}
	resp, err := r.once.Client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var task struct {
		Networks []struct {
			NetworkMode   string
			IPv4Addresses []string
		}
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&task) != nil || len(task.Networks) == 0 {
		return ""
	}
	if n := task.Networks[0]; n.NetworkMode != "bridge" && len(n.IPv4Addresses) > 0 {
		return n.IPv4Addresses[0]
	}
	return ""
}
