//go:build unix

package main

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
)

// registrar is the calls that the hook makes.
type registrar struct {
	url, token string
	client     *http.Client
}

func newRegistrar(s settings) registrar {
	transport := newDirect(2 * time.Second)
	transport.DisableKeepAlives = true // calls are seconds apart, and no two need the same replica
	return registrar{url: s.url, token: s.token, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is what came of a call: a status, or 0 and the reason why there is none.
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

func (a answer) good() bool { return a.status/100 == 2 }

// idHeld reports whether a registration was refused because another one has the id.
func (a answer) idHeld() bool { return a.status == http.StatusConflict && a.Field == "id" }

// away reports whether the same call may succeed later.
func (a answer) away() bool {
	switch a.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.status >= 500
}

// why says why a call went wrong.
func (a answer) why() string {
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
	return r.call(ctx, http.MethodPost, "/v1/register", form)
}

func (r registrar) heartbeat(ctx context.Context, id string, passed bool, note string) answer {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	form := url.Values{"status": {"pass"}}
	if !passed {
		form.Set("status", "fail")
	}
	if note != "" {
		form.Set("note", note)
	}
	return r.call(ctx, http.MethodPost, "/v1/instances/"+url.PathEscape(id)+"/heartbeat", form)
}

func (r registrar) get(ctx context.Context, id string) answer {
	return r.patiently(ctx, http.MethodGet, "/v1/instances/"+url.PathEscape(id))
}

// drain drains one start. It returns when the hold is over, or the context.
func (r registrar) drain(ctx context.Context, id, boot string, hold time.Duration) answer {
	return r.end(ctx, http.MethodPost, "/v1/instances/"+url.PathEscape(id)+"/drain", boot, url.Values{"hold": {hold.String()}})
}

func (r registrar) deregister(ctx context.Context, id, boot string) answer {
	return r.end(ctx, http.MethodDelete, "/v1/instances/"+url.PathEscape(id), boot, url.Values{})
}

// end ends one start. An older Rollcall does not know boot (422), and ends any.
func (r registrar) end(ctx context.Context, method, path, boot string, query url.Values) answer {
	older := query.Encode()
	query.Set("boot", boot)
	a := r.patiently(ctx, method, path+"?"+query.Encode())
	if a.status == http.StatusUnprocessableEntity {
		a = r.patiently(ctx, method, path+"?"+older)
	}
	return a
}

// patiently makes a call again while Rollcall cannot reach its Redis.
func (r registrar) patiently(ctx context.Context, method, path string) (a answer) {
	for range 3 {
		a = r.call(ctx, method, path, nil)
		if a.status < 500 {
			break
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return a
		}
	}
	return a
}

func (r registrar) call(ctx context.Context, method, path string, form url.Values) (a answer) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{err: err}
	}
	_ = json.Unmarshal(body, &a) // not everything that answers is Rollcall; then nothing is known but the status
	a.status = resp.StatusCode
	return a
}

// taskAddress asks Amazon ECS for the task's address. It is empty if there is no
// answer, and on a bridge, where the task does not know the one that others reach it at.
func (r registrar) taskAddress(ctx context.Context, metadata string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata, nil)
	if err != nil {
		return ""
	}
	resp, err := r.client.Do(req)
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
