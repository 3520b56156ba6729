package main

import (
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peer finds a program that Debian packages, or notes that it is skipped.
func (b *bench) peer(program string) (path string, ok bool) {
	for _, dir := range []string{"", "/usr/sbin", "/usr/local/sbin"} { // Debian's daemons are outside of an ordinary user's PATH
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, true
		}
	}
	b.results.skip(program + ": not installed (tests/install.sh bench)")
	return "", false
}

// etcd starts an etcd that keeps its data in memory, as our Redis does.
func (b *bench) etcd() (p *process, addr string, err error) {
	path, ok := b.peer("etcd")
	if !ok {
		return nil, "", nil
	}
	client, err := freePort(b.ctx)
	if err != nil {
		return nil, "", err
	}
	peers, err := freePort(b.ctx)
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("/dev/shm", "etcd")
	if err != nil {
		return nil, "", err
	}
	b.started.Go(func() {
		<-b.ctx.Done()
		if p != nil {
			<-p.exited
		}
		_ = os.RemoveAll(dir)
	})
	addr = "127.0.0.1:" + client
	p, err = b.start(nil, path, "--data-dir", dir, "--log-level", "error", "--listen-client-urls", "http://"+addr, "--advertise-client-urls", "http://"+addr,
		"--listen-peer-urls", "http://127.0.0.1:"+peers, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peers, "--initial-cluster", "default=http://127.0.0.1:"+peers)
	if err != nil {
		return nil, "", err
	}
	return p, addr, eventually(b.ctx, func() error {
		_, err := b.get("http://" + addr + "/health")
		return err
	})
}

// haproxy starts a HAProxy with a listener and further configuration, and returns its address. It is nil if HAProxy is not
// installed.
func (b *bench) haproxy(rest string) (p *process, addr string, err error) {
	path, ok := b.peer("haproxy")
	if !ok {
		return nil, "", nil
	}
	port, err := freePort(b.ctx)
	if err != nil {
		return nil, "", err
	}
	addr = "127.0.0.1:" + port
	config := `global
  maxconn 4000
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  timeout check 1s
  stats enable
  stats uri /stats
listen all
  bind ` + addr + "\n" + rest
	file, err := os.CreateTemp(b.bin, "haproxy")
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	if _, err := file.WriteString(config); err != nil {
		return nil, "", err
	}
	if p, err = b.start(nil, path, "-db", "-f", file.Name()); err != nil {
		return nil, "", err
	}
	return p, addr, eventually(b.ctx, func() error {
		select {
		case <-p.exited:
			return fatal{fmt.Errorf("haproxy has ended: %s", p.lastWords())}
		default:
		}
		c, err := new(net.Dialer).DialContext(b.ctx, "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// up tells which servers of a HAProxy are in service.
func (b *bench) up(addr string) (map[string]bool, error) {
	text, err := b.get("http://" + addr + "/stats;csv;norefresh")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "# "))).ReadAll()
	if err != nil {
		return nil, err
	}
	up := map[string]bool{}
	for _, row := range rows[1:] {
		up[row[1]] = strings.HasPrefix(row[17], "UP") // UP 1/2 is about to go down, and still in service
	}
	return up, nil
}

// blackbox starts a blackbox_exporter. It is nil if the program is not installed.
func (b *bench) blackbox() (p *process, addr string, err error) {
	path, ok := b.peer("prometheus-blackbox-exporter")
	if !ok {
		return nil, "", nil
	}
	port, err := freePort(b.ctx)
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(b.bin, "blackbox.yml")
	text := "modules:\n  http_2xx:\n    prober: http\n    timeout: 1s\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	addr = "127.0.0.1:" + port
	if p, err = b.start(nil, path, "--web.listen-address="+addr, "--config.file="+config, "--log.level=error"); err != nil {
		return nil, "", err
	}
	return p, addr, eventually(b.ctx, func() error {
		_, err := b.get("http://" + addr + "/-/healthy")
		return err
	})
}
