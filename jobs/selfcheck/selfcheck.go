// Package selfcheck decides whether failed probes are evidence about the instances, or about the worker and its
// network. SelfCheck and Lookups are plain values without a clock; Witnesses shares a SelfCheck among goroutines and
// probes the witnesses that it names.
package selfcheck

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
)

// SampleSize is how many witnesses decide about one failure.
const SampleSize = 16

const (
	maxWitnesses   = 256              // the most witnesses that a SelfCheck keeps
	minWitnesses   = 2                // the least number of witnesses for a decision
	deadAfter      = 10 * time.Second // a witness that has failed for this long has no vote
	witnessMemory  = time.Minute      // a witness not seen for this time and its interval does not count
	lackMemory     = 5 * time.Second  // a timeout within this time after a lack of sockets or memory does not count
	maxLateness    = 250 * time.Millisecond
	notOnTime      = "the worker was not on time itself"
	lackedResource = "the worker lacked sockets or memory"
)

// SelfCheck decides whether a failed probe is evidence about the instance, or about the
// worker and its network. It is a plain value: times and results are arguments. It has no
// clock, no lock and no I/O, and the same calls give the same decisions. The zero value is
// ready to use.
//
//   - An answer of the instance's host proves the path, so that failure counts at once. A
//     failure also counts if another instance on the same host passes.
//   - Silence, network errors and names without an address do not prove the path. The worker then
//     needs witnesses: instances on other hosts that the registry holds healthy. The failure counts
//     if at least two of a sample of them have passed a probe that began after the failed one
//     began, and more of the sample have passed than failed.
//   - A witness that has failed for deadAfter has no vote: it is dead, or unreachable like the
//     suspect. Such witnesses alone never make a failure count. Together with two witnesses that
//     pass they cannot prevent it.
//   - Where there are fewer than two witnesses, and on the worker's own host, the instance's own
//     results decide. A pass on the worker's own host is no evidence about other hosts.
//   - A timeout counts only if the worker was on time itself and did not lack sockets or memory.
//
// A worker that has held back a removal is suspended until its witnesses pass again. It continues
// to probe and to report passes. After the suspension a failure counts if its probe began after
// the suspension ended.
type SelfCheck struct {
	own       map[netip.Addr]bool
	witnesses []*witness // sorted by hash and id; the smallest are kept, which are a random sample
	lacked    time.Time  // when the worker last lacked sockets or memory
	suspended bool
	resumed   time.Time // when the last suspension ended
	reason    string
	suspect   suspect // the last instance whose removal was held back
}

type suspect struct {
	id, host string
	at       time.Time
}

// witness is an instance that the registry holds healthy, with its last results on this worker.
type witness struct {
	instance     app.Instance
	hash         uint64
	host         string
	seen         time.Time
	began, ended time.Time // of the last conclusive probe; zero before the first
	passed       bool
	since        time.Time // when the first probe of the present streak of passes, or of failures, began
}

func (w *witness) dead() bool {
	return !w.passed && w.ended.Sub(w.since) >= deadAfter
}

// record sets the last probe of w.
func (w *witness) record(r app.Result) {
	if w.passed != r.Passed || w.since.IsZero() {
		w.since = r.At
	}
	w.began, w.ended, w.passed = r.At, r.At.Add(r.Latency), r.Passed
}

// votes reports whether the last probe of w is evidence about a failed probe that began at since. A pass
// must have begun after that time, a failure must have ended after it.
func (w *witness) votes(since time.Time) bool {
	if w.passed {
		return !w.began.Before(since)
	}
	return w.ended.After(since)
}

// Decision is the consequence of a failure that would remove an instance.
type Decision int

// The decisions.
const (
	Remove       Decision = iota // remove the instance
	HoldBack                     // leave the instance unchanged and probe it again
	AskWitnesses                 // probe the witnesses, record the results and decide again
)

// SetOwn sets the addresses of the worker's own host, besides loopback.
func (s *SelfCheck) SetOwn(addresses []netip.Addr) {
	s.own = make(map[netip.Addr]bool, len(addresses))
	for _, a := range addresses {
		s.own[a.Unmap()] = true
	}
}

// Suspended reports whether the worker holds back removals. reason describes the last votes.
func (s *SelfCheck) Suspended() (is bool, reason string) { return s.suspended, s.reason }

// AddWitness offers an instance as the registry holds it. A healthy, probed instance becomes a witness;
// any other is removed from the witnesses.
func (s *SelfCheck) AddWitness(i app.Instance, now time.Time) {
	if i.State != app.Healthy || !i.Check.Probed() {
		s.RemoveWitness(i.ID)
		return
	}
	s.witness(i, now)
}

// Keeps returns the largest mixed hash of the id of a healthy instance that is a witness, or would become one. While
// the SelfCheck has room for more witnesses, it returns math.MaxUint64.
func (s *SelfCheck) Keeps() uint64 {
	if n := len(s.witnesses); n >= maxWitnesses {
		return s.witnesses[n-1].hash
	}
	return math.MaxUint64
}

// witness adds or updates a witness. It returns nil if the SelfCheck does not keep the instance.
func (s *SelfCheck) witness(i app.Instance, now time.Time) *witness {
	n, known := s.find(i.ID)
	if known {
		w := s.witnesses[n]
		if w.instance.Address != i.Address || w.instance.Check.Port != i.Check.Port { // the results at the old address do not count
			*w = witness{hash: w.hash, host: hostOf(i)}
		}
		w.instance, w.seen = i, now
		return w
	}
	host := hostOf(i)
	if n == maxWitnesses || s.isOwn(host) {
		return nil
	}
	w := &witness{instance: i, host: host, hash: hashOf(i.ID), seen: now}
	s.witnesses = slices.Insert(s.witnesses, n, w)
	if len(s.witnesses) > maxWitnesses {
		s.witnesses = slices.Delete(s.witnesses, maxWitnesses, len(s.witnesses))
	}
	return w
}

// RemoveWitness removes a witness: the instance is gone or not healthy any more.
func (s *SelfCheck) RemoveWitness(id string) {
	s.clear(id)
	if n, known := s.find(id); known {
		s.witnesses = slices.Delete(s.witnesses, n, n+1)
	}
}

// clear resets the suspect if it is this instance.
func (s *SelfCheck) clear(id string) {
	if s.suspect.id == id {
		s.suspect = suspect{}
	}
}

func (s *SelfCheck) find(id string) (n int, known bool) {
	hash := hashOf(id)
	return slices.BinarySearchFunc(s.witnesses, id, func(w *witness, id string) int {
		return cmp.Or(cmp.Compare(w.hash, hash), cmp.Compare(w.instance.ID, id))
	})
}

// Record adds the result, reached at now, of a probe of an instance as the registry holds
// it. It returns the result, with the code Inconclusive if the worker itself may have caused the
// timeout.
func (s *SelfCheck) Record(i app.Instance, r app.Result, now time.Time) app.Result {
	if r.Code == app.Inconclusive {
		s.lacked = r.At.Add(r.Latency)
	}
	r = s.excuse(i, r)
	if r.Passed {
		s.clear(i.ID)
	}
	healthy := i.State == app.Healthy || i.Observe(r, now).State == app.Healthy
	dead := !r.Passed && r.Code.ProvesPath()
	switch {
	case !r.Conclusive():
	case !healthy || dead:
		s.RemoveWitness(i.ID)
	default:
		if w := s.witness(i, now); w != nil {
			w.record(r)
		}
	}
	return r
}

// excuse makes a timeout inconclusive if the worker was late or has lacked resources.
func (s *SelfCheck) excuse(i app.Instance, r app.Result) app.Result {
	if r.Passed || !r.Code.IsTimeout() {
		return r
	}
	switch {
	case r.Latency > i.Check.Timeout+min(maxLateness, i.Check.Timeout/2):
		r.Code, r.Detail = app.Inconclusive, notOnTime
	case !s.lacked.IsZero() && r.At.Sub(s.lacked) < lackMemory:
		r.Code, r.Detail = app.Inconclusive, lackedResource
	}
	return r
}

// Decide decides at now about a failure that would remove a healthy instance. With
// AskWitnesses it returns the witnesses to probe. asked means that the caller has probed them: a
// witness without a recorded result then has no vote.
func (s *SelfCheck) Decide(i app.Instance, r app.Result, now time.Time, asked bool) (Decision, []app.Instance) {
	host := hostOf(i)
	if r.Code.ProvesPath() || s.isOwn(host) {
		return Remove, nil
	}
	v := s.poll(suspect{i.ID, host, now}, r.At, now)
	switch {
	case v.witnesses < minWitnesses, v.path:
		return Remove, nil
	case v.fit(asked):
		s.resume(v, now)
		if r.At.Before(s.resumed) { // the network may have come back during the probe
			return HoldBack, nil
		}
		return Remove, nil
	case !asked && (v.open() || len(v.beside) > 0):
		return AskWitnesses, append(v.ask, v.beside...)
	}
	if r.At.Before(s.resumed) { // the probe is no evidence about the network after the suspension
		return HoldBack, nil
	}
	s.suspended, s.reason, s.suspect = true, v.String(), suspect{i.ID, host, now}
	return HoldBack, nil
}

// Ignores reports whether a failure of a healthy instance does not count, although it removes
// nothing yet: the worker is suspended, and its network may have caused the failure.
func (s *SelfCheck) Ignores(i app.Instance, r app.Result) bool {
	return s.suspended && i.State == app.Healthy && !r.Passed && !r.Code.ProvesPath() && !s.isOwn(hostOf(i))
}

// Recheck returns the witnesses that a suspended worker probes at now to find out whether its
// network is back. Dead witnesses are among them, because they may be back too.
func (s *SelfCheck) Recheck(now time.Time) []app.Instance {
	v := s.poll(s.suspect, now, now)
	return append(v.ask, v.dead[:min(len(v.dead), SampleSize-len(v.ask))]...)
}

// Resume ends the suspension if enough probes of the witnesses have passed since a time.
func (s *SelfCheck) Resume(since, now time.Time) {
	if now.Sub(s.suspect.at) > witnessMemory { // the instance is gone, or another worker owns it
		s.suspect = suspect{}
	}
	if v := s.poll(s.suspect, since, now); v.witnesses < minWitnesses || v.fit(true) {
		s.resume(v, now)
	}
}

func (s *SelfCheck) resume(v poll, now time.Time) {
	if s.suspended {
		s.suspended, s.resumed, s.reason = false, now, v.String()
	}
}

// poll holds the votes of the witnesses about one failure.
type poll struct {
	witnesses      int            // on other hosts, dead or not
	passed, failed int            // of the sample, in probes since the failed one began
	ask            []app.Instance // of the sample, without such a probe
	dead           []app.Instance
	path           bool           // another instance on the suspect's host has passed before and since
	beside         []app.Instance // at most one instance on the suspect's host, without a probe since
}

// fit reports whether enough witnesses have passed, even if all missing answers are failures. final means
// that no more witnesses are probed.
func (v poll) fit(final bool) bool {
	others := v.failed
	if !final {
		others += len(v.ask)
	}
	return v.passed >= minWitnesses && v.passed > others
}

// open reports whether the missing answers can still make v fit.
func (v poll) open() bool {
	most := v.passed + len(v.ask)
	return most >= minWitnesses && most > v.failed
}

func (v poll) String() string {
	return fmt.Sprintf("%d of %d witnesses pass: instances on other hosts that are held healthy", v.passed, v.passed+v.failed+len(v.dead))
}

// poll collects the votes about a failure of a suspect. Its sample covers as many hosts as possible.
func (s *SelfCheck) poll(of suspect, since, now time.Time) (v poll) {
	var first, more []*witness
	hosts := map[string]bool{}
	for _, w := range s.witnesses {
		switch {
		case w.instance.ID == of.id, s.isOwn(w.host), now.Sub(w.seen) > witnessMemory+w.instance.Check.Interval:
			continue
		case w.host == of.host:
			v.addNeighbour(w, since)
			continue
		case w.dead():
			v.dead = append(v.dead, w.instance)
		case hosts[w.host]:
			more = append(more, w)
		default:
			hosts[w.host] = true
			first = append(first, w)
		}
		v.witnesses++
	}
	sample := append(first, more...)
	for _, w := range sample[:min(len(sample), SampleSize)] {
		v.count(w, since, s.resumed)
	}
	return v
}

// addNeighbour adds another instance on the suspect's host.
func (v *poll) addNeighbour(w *witness, since time.Time) {
	voted := w.votes(since)
	if voted && w.passed && !w.since.After(since) {
		v.path = true
	}
	if !voted && !w.dead() && len(v.beside) == 0 {
		v.beside = append(v.beside, w.instance)
	}
}

// count adds the vote of a witness of the sample. A failure from before resumed, when the network came back, is no vote.
func (v *poll) count(w *witness, since, resumed time.Time) {
	switch {
	case !w.votes(since), !w.passed && w.began.Before(resumed):
		v.ask = append(v.ask, w.instance)
	case w.passed:
		v.passed++
	default:
		v.failed++
	}
}

// isOwn reports whether a host is the worker's own.
func (s *SelfCheck) isOwn(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	return a.Unmap().IsLoopback() || s.own[a.Unmap()]
}

// hashOf orders the witnesses.
func hashOf(id string) uint64 { return ownership.Mix(ownership.Hash(id)) }
