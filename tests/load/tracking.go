package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trackedRate is more probes a second than a connection tracking table of 262,144 entries
// takes when each entry is kept for two minutes.
const trackedRate = 2500

// trackedFloor is how long the floor needs to fill such a table, and a little more.
const trackedFloor = 150 * time.Second

// The kernel's files about a network's table: a line for each live entry, and a line of hexadecimal counters for each CPU.
const (
	trackedEntries  = "/proc/net/nf_conntrack"
	trackedCounters = "/proc/net/stat/nf_conntrack"
)

// tracked is the number of entries that connection tracking held, and of packets that it dropped, after some probing.
type tracked struct{ Entries, Probes, Failed, Dropped float64 }

// trackingStep measures the entries of probes in the host's connection tracking table, in a network namespace whose packets
// are tracked.
func trackingStep(b *bench) error {
	if !canTrack() {
		b.results.skip("connection tracking: needs root, nf_conntrack, unshare, ip and iptables")
		return nil
	}
	for side, window := range map[string]time.Duration{"Rollcall": b.tracked, "F4": min(b.tracked, trackedFloor)} {
		b.try(side, func() error {
			text, err := b.output("unshare", "--net", b.self, "tracked", side, b.bin, window.String())
			if err != nil {
				return err
			}
			var t tracked
			if err := json.Unmarshal(text[strings.LastIndex(string(text), "{"):], &t); err != nil {
				return err
			}
			b.results.add("tracked connections", "", side, int(window.Seconds()), t.Entries)
			b.results.add("tracked connections per probe a second", "s", side, int(window.Seconds()), t.Entries/(t.Probes/window.Seconds()))
			b.results.add("packets that connection tracking dropped", "", side, int(window.Seconds()), t.Dropped)
			b.results.add("failed probes while tracked", "", side, int(window.Seconds()), t.Failed)
			return nil
		})
	}
	return nil
}

func canTrack() bool {
	for _, program := range []string{"unshare", "ip", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			return false
		}
	}
	_, err := os.Stat(trackedEntries)
	return err == nil && os.Getuid() == 0
}

// runTracked is a process in a network of its own.
func runTracked(ctx context.Context, side, bin, text string) error {
	window, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT"}, // has packets tracked here
	} {
		if said, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, said)
		}
	}
	b := &bench{pace: paces["quick"], bin: bin, self: self, results: newResults("", "", "")}
	return b.run(ctx, func(b *bench) error {
		t, err := b.target()
		if err != nil {
			return err
		}
		var failed func() (float64, error)
		if side == "F4" {
			failed = func() (float64, error) { return 0, nil }
			if _, _, err := b.floor("probe", t.port, "5000", strconv.Itoa(trackedRate)); err != nil {
				return err
			}
		} else if failed, err = b.trackedWorker(t); err != nil {
			return err
		}
		before, err := t.count()
		if err != nil {
			return err
		}
		b.rest(window)
		after, err := t.count()
		if err != nil {
			return err
		}
		r := tracked{Probes: after - before}
		held, err := os.ReadFile(trackedEntries)
		if err != nil {
			return err
		}
		r.Entries = float64(bytes.Count(held, []byte("\n")))
		if r.Dropped, err = counter(trackedCounters, "drop"); err != nil {
			return err
		}
		if r.Failed, err = failed(); err != nil {
			return err
		}
		fmt.Println()
		return json.NewEncoder(os.Stdout).Encode(r)
	})
}

// counter sums a column of counters, of which there is a line for each CPU.
func counter(file, column string) (sum float64, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	at := slices.Index(strings.Fields(lines[0]), column)
	if at < 0 {
		return 0, fmt.Errorf("%s has no %s", file, column)
	}
	for _, line := range lines[1:] {
		n, err := strconv.ParseUint(strings.Fields(line)[at], 16, 64)
		if err != nil {
			return 0, err
		}
		sum += float64(n)
	}
	return sum, nil
}

// trackedWorker starts a worker with enough instances for the rate, and returns a function that counts its failed probes.
func (b *bench) trackedWorker(t *target) (failed func() (float64, error), err error) {
	s, err := b.site()
	if err != nil {
		return nil, err
	}
	if err := s.probed(t, "tracked", 2*trackedRate, 2*time.Second); err != nil {
		return nil, err
	}
	_, metrics, err := s.cron()
	if err != nil {
		return nil, err
	}
	return func() (float64, error) {
		m, err := b.figures(metrics)
		return failures(m), err
	}, s.awaitHealthy("tracked", 2*trackedRate)
}
