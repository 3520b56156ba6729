package app

import (
	"maps"
	"slices"
	"time"
)

// MaxAgents is the largest number of agents that have reported.
const MaxAgents = 1000

// Agent is the last report of an agent: a program that registers the containers of one engine.
type Agent struct {
	Node       string            // unique name of the engine
	SyncedAt   time.Time         // last comparison of the engine's containers with the registry
	Containers int               // running containers with labels
	Refused    map[string]string // reasons of the containers that are not registered, by the container's name
}

// Refusals returns the events of the containers that are refused since the former report, or for another reason.
func (a Agent) Refusals(former Agent, now time.Time, actor string) []Event {
	var all []Event
	for _, name := range slices.Sorted(maps.Keys(a.Refused)) {
		if reason := a.Refused[name]; former.Refused[name] != reason {
			all = append(all, Event{
				Kind: EventRefused, At: now, Subject: a.Node, Reason: "container " + name + " is not registered: " + reason, Actor: actor,
			})
		}
	}
	return all
}
