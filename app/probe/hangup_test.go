package probe_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
	"rollcall/tests/harness"
)

// Servers that log an error or exit if a client resets a connection that they still read or write.
// Each prints its port.
const (
	nodeNet = `const s = require('net').createServer(c => { HANDLER });
s.listen(0, '127.0.0.1', () => console.log(s.address().port));`
	nodeHTTP = `const s = require('http').createServer((req, res) => { HANDLER });
s.listen(0, '127.0.0.1', () => console.log(s.address().port));`
	pythonHTTP = `
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'VERSION'
    def log_request(self, *a): pass
    def do_GET(self):
        body = b'x' * SIZE
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
s = http.server.SERVER(('127.0.0.1', 0), Handler)
print(s.server_port, flush=True)
s.serve_forever()
`
	pythonSocketserver = `
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
s = Server(('127.0.0.1', 0), Handler)
print(s.server_address[1], flush=True)
s.serve_forever()
`
	pythonAsyncio = `
import asyncio
async def handle(reader, writer):
    GREETING
    while await reader.readline():
        ANSWER
    writer.close()
async def main():
    s = await asyncio.start_server(handle, '127.0.0.1', 0)
    print(s.sockets[0].getsockname()[1], flush=True)
    await s.serve_forever()
asyncio.run(main())
`
)

func TestProbesLeaveNoTraceInTheApplication(t *testing.T) {
	t.Parallel()
	script := strings.NewReplacer
	const (
		keptAlive = `c.on('data', () => c.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'))`
		megabyte  = `res.end(Buffer.alloc(900000, 'x'))`
	)
	for name, c := range map[string]struct {
		program, code string
		kind          app.Kind
		timeout       time.Duration
		want          app.Result
	}{
		"tcp of Node":                      {"node", script("HANDLER", "").Replace(nodeNet), app.TCP, ample, pass(app.OK)},
		"tcp of Node with a greeting":      {"node", script("HANDLER", "c.write('hello\\n'); c.resume()").Replace(nodeNet), app.TCP, ample, pass(app.OK)},
		"tcp of Node with a late greeting": {"node", script("HANDLER", "setTimeout(() => c.write('hello\\n'), 50)").Replace(strings.Replace(nodeNet, "createServer(", "createServer({allowHalfOpen: true}, ", 1)), app.TCP, ample, pass(app.OK)},
		"tcp of http.server":               {"python3", script("VERSION", "HTTP/1.0", "SIZE", "2", "SERVER", "HTTPServer").Replace(pythonHTTP), app.TCP, ample, pass(app.OK)},
		"tcp of http.server, threads":      {"python3", script("VERSION", "HTTP/1.1", "SIZE", "2", "SERVER", "ThreadingHTTPServer").Replace(pythonHTTP), app.TCP, ample, pass(app.OK)},
		"tcp of socketserver":              {"python3", pythonSocketserver, app.TCP, ample, pass(app.OK)},
		"tcp of asyncio":                   {"python3", script("GREETING", "", "ANSWER", "pass").Replace(pythonAsyncio), app.TCP, ample, pass(app.OK)},
		"tcp of asyncio with a greeting":   {"python3", script("GREETING", "writer.write(b'hello')", "ANSWER", "pass").Replace(pythonAsyncio), app.TCP, ample, pass(app.OK)},

		"http of Node":                       {"node", script("HANDLER", "res.end('ok')").Replace(nodeHTTP), app.HTTP, ample, pass(200)},
		"http of Node, large":                {"node", script("HANDLER", megabyte).Replace(nodeHTTP), app.HTTP, ample, pass(200)},
		"http of Node, failing, large":       {"node", script("HANDLER", "res.statusCode = 500;"+megabyte).Replace(nodeHTTP), app.HTTP, ample, fail(500, "want 200-399")},
		"http of net that keeps connections": {"node", script("HANDLER", keptAlive).Replace(nodeNet), app.HTTP, ample, pass(200)},
		"http of net that says nothing":      {"node", script("HANDLER", "c.resume()").Replace(nodeNet), app.HTTP, brief, fail(app.Stalled, "connected, but no whole answer")},
		"http of http.server":                {"python3", script("VERSION", "HTTP/1.0", "SIZE", "2", "SERVER", "HTTPServer").Replace(pythonHTTP), app.HTTP, ample, pass(200)},
		"http of http.server, large":         {"python3", script("VERSION", "HTTP/1.1", "SIZE", "900000", "SERVER", "HTTPServer").Replace(pythonHTTP), app.HTTP, ample, pass(200)},
		"http of asyncio, large":             {"python3", script("GREETING", "", "ANSWER", `writer.write(b'HTTP/1.1 200 OK\r\n\r\n' + b'x' * 900000); await writer.drain(); break`).Replace(pythonAsyncio), app.HTTP, ample, pass(200)},

		"redis of asyncio":     {"python3", script("GREETING", "", "ANSWER", `writer.write(b'+PONG\r\n')`).Replace(pythonAsyncio), app.Redis, ample, pass(app.OK)},
		"redis of net":         {"node", script("HANDLER", `c.on('data', () => c.write('+PONG\r\n'))`).Replace(nodeNet), app.Redis, ample, pass(app.OK)},
		"memcached of asyncio": {"python3", script("GREETING", "", "ANSWER", `writer.write(b'VERSION 1\r\n')`).Replace(pythonAsyncio), app.Memcached, ample, pass(app.OK)},
		"http of a greeter":    {"node", script("HANDLER", "c.write('220 hello\\n'); c.resume()").Replace(nodeNet), app.HTTP, ample, fail(app.BadAnswer, `begins "220"`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, c.program, c.code)
			p := probe.New(probe.Options{})
			for range 10 {
				same(t, run(t, p, instance(c.kind, s.address, c.timeout)), c.want)
			}
			s.endsQuietly(t, p)
		})
	}
}

func TestAServerThatClosesIsReset(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"end":    "HTTP/1.1 200 OK\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			address := listen(t, afterRequest(func(c net.Conn) {
				_, _ = c.Write([]byte(answer))
				_ = c.(*net.TCPConn).CloseWrite()
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}))
			expect(t, instance(app.HTTP, address, ample), pass(200))
			if err := <-ended; err == nil || !strings.Contains(err.Error(), "reset") {
				t.Errorf("the server saw %v, want a reset: after FIN connection tracking keeps the entry for 120 s", err)
			}
		})
	}
}

func TestAnswersDoNotWaitForTheServerToHangUp(t *testing.T) {
	t.Parallel()
	p := probe.New(probe.Options{})
	address := listen(t, func(c net.Conn) { // never closes by itself
		b := bufio.NewReader(c)
		if _, err := http.ReadRequest(b); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			<-t.Context().Done()
		}
	})
	began := time.Now()
	same(t, run(t, p, instance(app.HTTP, address, ample)), pass(200))
	p.Close()
	if took := time.Since(began); took > slack {
		t.Errorf("probe and Close took %s", took)
	}
	same(t, run(t, p, instance(app.HTTP, address, ample)), pass(200)) // Close ends no probe
}

// script is a running program of a test.
type script struct {
	address string
	exited  chan struct{}
	kill    func()
	stderr  *strings.Builder
}

// startScript runs code with node or python3, and returns once it listens.
func startScript(t *testing.T, program, code string) *script {
	t.Helper()
	path := harness.Need(t, program)
	flag := map[string]string{"node": "-e", "python3": "-c"}[program]
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &script{exited: make(chan struct{}), kill: kill, stderr: new(strings.Builder)}
	cmd := exec.CommandContext(ctx, path, flag, code)
	cmd.Stderr = s.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port, err := bufio.NewReader(stdout).ReadString('\n')
	go func() { defer close(s.exited); _ = cmd.Wait() }()
	t.Cleanup(func() { kill(); <-s.exited })
	if err != nil {
		kill()
		<-s.exited
		t.Fatalf("%s does not listen: %v\n%s", program, err, s.stderr)
	}
	s.address = net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
	return s
}

// endsQuietly checks that the program still runs and has written no line to stderr after all
// connections of p have ended.
func (s *script) endsQuietly(t *testing.T, p *probe.Prober) {
	t.Helper()
	p.Wait()
	// When the program has seen the end of another connection, it has logged all earlier ones.
	if r := p.Probe(t.Context(), instance(app.TCP, s.address, ample)); !r.Passed {
		<-s.exited
		t.Fatalf("the program has ended: %s\n%s", r.Reason(), s.stderr)
	}
	p.Wait()
	select {
	case <-s.exited:
		t.Errorf("the program has ended:\n%s", s.stderr)
	case <-time.After(200 * time.Millisecond):
		s.kill()
		<-s.exited
		if s.stderr.Len() > 0 {
			t.Errorf("the program has written\n%s", s.stderr)
		}
	}
}
