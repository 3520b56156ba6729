package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

const adminToken = "of-the-operator-alone"

// as returns the client with a token.
func (a api) as(token string) api {
	a.token = token
	return a
}

// remote is the environment of commands that call a running Rollcall.
func remote(a api) []string { return []string{"ROLLCALL_URL=" + a.base, "ROLLCALL_TOKEN=" + a.token} }

// create creates a token with the command line.
func (a api) create(scopes ...string) string {
	a.t.Helper()
	args := []string{"token", "create", "--name", "ci"}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	code, out, log := harness.Run(a.t, remote(a), args...)
	if code != 0 {
		a.t.Fatalf("token create: %d %s", code, log)
	}
	return strings.TrimSpace(out)
}

// awaitStatus repeats a read until the answer has a status.
func (a api) awaitStatus(path string, status int) {
	a.t.Helper()
	harness.Eventually(a.t, func() error {
		if got := a.once(http.MethodGet, path, nil); got.status != status {
			return fmt.Errorf("%s: %s, want %d", path, got, status)
		}
		return nil
	})
}

func TestNobodyListensToOthersWithoutAToken(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	everywhere := append(k.Env, "ROLLCALL_BIND=0.0.0.0", "ROLLCALL_EMBEDDED_REDIS_PORT=0")
	for _, program := range []string{"web", "serve", "dev"} {
		code, _, log := harness.Run(t, everywhere, program)
		if code != 1 || !strings.Contains(log, "ROLLCALL_ADMIN_TOKEN") || !strings.Contains(log, "rollcall token create") {
			t.Errorf("%s: %d\n%s", program, code, log)
		}
	}
	_, a := k.web() // on loopback every caller may create the first one
	token := a.create("admin")
	p := harness.StartProcess(t, everywhere, "rollcall", "web")
	_, port, err := net.SplitHostPort(p.Addr("API"))
	if err != nil {
		t.Fatal(err)
	}
	a.base = "http://127.0.0.1:" + port
	a.ready()
	if got := a.call(http.MethodGet, "/v1/services", nil); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %s", got)
	}
	if got := a.as(token).call(http.MethodGet, "/v1/services", nil); got.status != http.StatusOK {
		t.Errorf("with one: %s", got)
	}
	if got := a.as(token).call(http.MethodPost, "/v1/register", form("service", "web", "port", "80")); got.problem(t).Field != "address" {
		t.Errorf("from loopback, which containers elsewhere cannot mean: %s", got)
	}
}

func TestATokenCountsAndEndsInEveryProcess(t *testing.T) {
	t.Parallel()
	k := newStack(t, "ROLLCALL_ADMIN_TOKEN="+adminToken)
	_, one := k.web()
	_, two := k.web()
	one = one.as(adminToken)
	token := one.create("read", "register:web-*")
	two = two.as(token)
	two.awaitStatus("/v1/services", http.StatusOK)
	id := strings.Split(token, "_")[1]
	code, out, log := harness.Run(t, remote(one), "token", "ls")
	if code != 0 || !strings.Contains(out, id+"  ci    never    read register:web-*") || strings.Contains(out, token) {
		t.Errorf("token ls: %d %s\n%s", code, log, out)
	}
	if code, _, log := harness.Run(t, remote(two), "token", "revoke", id); code != 4 || !strings.Contains(log, "scope admin") {
		t.Errorf("token revoke by another one: %d %s", code, log)
	}
	if code, _, log := harness.Run(t, remote(one), "token", "revoke", id); code != 0 {
		t.Errorf("token revoke: %d %s", code, log)
	}
	if got := one.as(token).once(http.MethodGet, "/v1/services", nil); got.status != http.StatusUnauthorized {
		t.Errorf("at the process that has revoked it: %s", got)
	}
	two.awaitStatus("/v1/services", http.StatusUnauthorized)
	if code, _, log := harness.Run(t, remote(two), "ls"); code != 4 || !strings.Contains(log, "ROLLCALL_TOKEN") || strings.Contains(log, token) {
		t.Errorf("ls with it: %d %s", code, log)
	}
	if code, _, log := harness.Run(t, remote(one), "token", "revoke", id); code != 1 || !strings.Contains(log, "not found") {
		t.Errorf("token revoke again: %d %s", code, log)
	}
}

func TestKnownTokensCountWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	k := newStack(t, "ROLLCALL_ADMIN_TOKEN="+adminToken)
	_, a := k.web()
	token := a.as(adminToken).create("read")
	k.Server.Kill()
	a.as(token).awaitStatus("/v1/services", http.StatusServiceUnavailable)
	if got := a.as(token+"x").once(http.MethodGet, "/v1/services", nil); got.status != http.StatusUnauthorized {
		t.Errorf("with another one: %s", got)
	}
}

// TestSecretsAreNotTold makes the calls of ordinary callers, and searches every output for secrets.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	k := newStack(t, "ROLLCALL_ADMIN_TOKEN="+adminToken, "ROLLCALL_LOG_LEVEL=debug")
	web, a := k.web()
	cron := k.Process("cron")
	a = a.as(adminToken)
	token := a.create("register:*", "host:*", "read")
	b := harness.NewBackend(t)
	var receipt struct{ Key string }
	registered := a.as(token).call(http.MethodPost, "/v1/register", harness.Registration(b, "w1", "a.test"))
	if err := json.Unmarshal([]byte(registered.body), &receipt); err != nil || receipt.Key == "" {
		t.Fatalf("%s, %v", registered, err)
	}
	a.awaitState("w1", "healthy")
	secrets := []string{adminToken, token[strings.LastIndex(token, "_")-8:], receipt.Key[len(receipt.Key)-40:]}
	var told bytes.Buffer
	for _, who := range []string{adminToken, token, receipt.Key, token + "x", adminToken + "x", receipt.Key + "0"} {
		for _, path := range []string{
			"/", "/instances/w1", "/events", "/frontends", "/v1/instances/w1", "/v1/tokens", "/v1/services", "/v1/services/web?state=any", "/v1/frontends", "/metrics",
			"/v1/webhooks", "/v1/no/such/route", "/v1/instances/w1?x=1", "/v1/env?link=web", "/v1/sd/prometheus",
		} {
			fmt.Fprintln(&told, a.as(who).once(http.MethodGet, path, nil))
		}
		fmt.Fprintln(&told, a.as(who).once(http.MethodPost, "/v1/instances/w1/heartbeat", form("status", "sick")))
		fmt.Fprintln(&told, a.as(who).once(http.MethodPatch, "/v1/instances/w1", form("weight", "2", "for", "1m")))
		fmt.Fprintln(&told, a.as(who).once(http.MethodPost, "/v1/register", form("service", "Web")))
	}
	fmt.Fprintln(&told, a.as(receipt.Key).once(http.MethodDelete, "/v1/instances/w1", nil))
	ctx := t.Context()
	fmt.Fprintln(&told, k.Redis.HGetAll(ctx, "rollcall:tokens"), k.Redis.XRange(ctx, "rollcall:events", "-", "+"))
	if !strings.Contains(told.String(), "key:w1") {
		t.Error("the events do not say that the instance ended itself")
	}
	web.Stop()
	cron.Stop()
	for what, text := range map[string]string{"answers, events or Redis": told.String(), "web's log": web.Log.String(), "cron's log": cron.Log.String()} {
		for n, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s: secret %d is in %q", what, n, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
	if !strings.Contains(web.Log.String(), `"actor":"key:w1"`) {
		t.Errorf("web's log does not say who it was:\n%s", web.Log.String())
	}
}

// forbidden is a server on this machine that Rollcall must not call.
func forbidden(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was called: %s %s", r.Host, r.Method, r.URL)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestWhomRollcallCallsIsConfigured(t *testing.T) {
	t.Parallel()
	k := newStack(t, "ROLLCALL_PROBE_NETWORKS=10.0.0.0/8,fd00::/8", "ROLLCALL_WEBHOOK_NETWORKS=10.0.0.0/8")
	_, a := k.web()
	k.Process("cron")
	_, port, _ := net.SplitHostPort(forbidden(t))
	if got := a.call(http.MethodPost, "/v1/register", form("service", "web", "port", port)); got.status != http.StatusUnprocessableEntity ||
		got.problem(t).Field != "address" || !strings.Contains(got.body, "ROLLCALL_PROBE_NETWORKS") {
		t.Errorf("an address: %s", got)
	}
	a.register(form("service", "web", "id", "w1", "address", "localhost", "port", port, "health", "/", "grace", "2s"))
	a.awaitState("w1", "failed")
	results := a.instance("w1").Results
	if len(results) == 0 || results[0].Reason != "address not allowed" {
		t.Errorf("a name: %+v", results)
	}
	got := a.call(http.MethodPost, "/v1/webhooks", form("url", "http://localhost:"+port+"/"))
	if got.status != http.StatusFailedDependency || !strings.Contains(got.body, "address not allowed") {
		t.Errorf("a webhook: %s", got)
	}
}

// TestNoProxyOfTheEnvironmentIsAsked calls this machine at its own address: Go's clients never use a
// proxy for loopback.
func TestNoProxyOfTheEnvironmentIsAsked(t *testing.T) {
	t.Parallel()
	own := ownAddress(t)
	proxy := "http://" + forbidden(t)
	k := newStack(t, "HTTP_PROXY="+proxy, "http_proxy="+proxy, "HTTPS_PROXY="+proxy, "ALL_PROXY="+proxy, "ROLLCALL_PROBE_NETWORKS="+own+"/32")
	_, a := k.web()
	k.Process("cron")
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", own+":0")
	if err != nil {
		t.Skip(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	server.Start()
	t.Cleanup(server.Close)
	a.register(form("service", "web", "id", "w1", "address", l.Addr().String(), "health", "/"))
	a.awaitState("w1", "healthy")
	if got := a.call(http.MethodPost, "/v1/webhooks", form("url", server.URL)); got.status != http.StatusCreated {
		t.Errorf("a webhook: %s", got)
	}
}

func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, theirs := newAuthority(t, filepath.Join(dir, "ours.pem")), newAuthority(t, filepath.Join(dir, "theirs.pem"))
	ours.issue(t, filepath.Join(dir, "redis"), net.IPv4(127, 0, 0, 1))
	ours.issue(t, filepath.Join(dir, "other"), net.IPv4(127, 0, 0, 2))
	for name, c := range map[string]struct {
		certificate string
		trusted     *authority
		fault       string // empty: none
	}{
		"trusted":         {"redis", ours, ""},
		"untrusted":       {"redis", theirs, "unknown authority"},
		"another address": {"other", ours, "127.0.0.2, not 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.StartRedis(t)
			port := strconv.Itoa(harness.FreePort(t))
			certificate := filepath.Join(dir, c.certificate)
			s.Restart(t, "--tls-port", port, "--tls-auth-clients", "no", "--tls-ca-cert-file", ours.path,
				"--tls-cert-file", certificate+".pem", "--tls-key-file", certificate+".key", "--user", "rollcall", "on", ">hunter2hunter2", "~*", "&*", "+@all")
			env := []string{"REDIS_URL=rediss://rollcall:hunter2hunter2@127.0.0.1:" + port, "PORT=0", "SSL_CERT_FILE=" + c.trusted.path}
			if c.fault != "" {
				began := time.Now()
				code, _, log := harness.Run(t, env, "web")
				if code != 1 || !strings.Contains(log, "REDIS_URL") || !strings.Contains(log, c.fault) || strings.Contains(log, "hunter2") {
					t.Errorf("after %s: %d\n%s", time.Since(began), code, log)
				}
				return
			}
			a := api{t: t, base: "http://" + harness.StartProcess(t, env, "rollcall", "web").Addr("API")}
			a.ready()
			a.register(form("service", "web", "id", "w1", "port", "80", "health", "none"))
			if there, err := s.Client(t).Exists(t.Context(), "rollcall:instance:w1").Result(); there != 1 || err != nil {
				t.Errorf("it is not in that Redis: %v", err)
			}
		})
	}
}

// authority issues certificates.
type authority struct {
	path        string // of the authority's certificate
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, path string) *authority {
	t.Helper()
	a := &authority{path: path, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: path}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.write(t, path, a.certificate, a.key)
	return a
}

// issue writes a certificate and its key.
func (a *authority) issue(t *testing.T, path string, ip net.IP) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, path+".pem", &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{ip}}, key)
	doc, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: doc}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (a *authority) write(t *testing.T, path string, c *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	doc, err := x509.CreateCertificate(rand.Reader, c, a.certificate, &key.PublicKey, a.key)
	if err = errors.Join(err, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: doc}), 0o600)); err != nil {
		t.Fatal(err)
	}
}
