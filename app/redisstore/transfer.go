package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rollcall/app"
)

// exported is one line of an export.
type exported struct {
	ID       string `json:"id"`
	Instance record `json:"instance"`
}

// Export writes every instance as a line of JSON, in the order in which they stand in
// the lists of their vhosts. What is draining is left out: it is about to be gone.
func (s *Store) Export(ctx context.Context, to io.Writer) (int, error) {
	instances, err := s.All(ctx)
	if err != nil {
		return 0, err
	}
	places, err := s.places(ctx)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(instances, func(a, b app.Instance) int {
		if pa, pb := places[a.ID], places[b.ID]; pa != pb {
			return strings.Compare(pa, pb)
		}
		return strings.Compare(a.ID, b.ID)
	})
	lines, n := json.NewEncoder(to), 0
	for _, i := range instances {
		if i.State == app.Draining {
			continue
		}
		if err := lines.Encode(exported{ID: i.ID, Instance: recordOf(i, i.Rev)}); err != nil {
			return n, fmt.Errorf("export %s: %w", i.ID, err)
		}
		n++
	}
	return n, nil
}

// places says where each instance stands, as text that sorts.
func (s *Store) places(ctx context.Context) (map[string]string, error) {
	frontends, err := s.Frontends(ctx)
	if err != nil {
		return nil, err
	}
	places := map[string]string{}
	for _, f := range frontends {
		for n, slot := range f.Slots {
			if _, known := places[slot.Instance]; !known {
				places[slot.Instance] = fmt.Sprintf("%s %09d", f.Host, n)
			}
		}
	}
	return places, nil
}

// Import adds the instances of an export that are not known, as they were, and has
// them probed at once. It returns how many it has added, and how many there were.
func (s *Store) Import(ctx context.Context, from io.Reader) (added, read int, err error) {
	lines := json.NewDecoder(from)
	lines.DisallowUnknownFields()
	for {
		var e exported
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return added, read, nil
		} else if err != nil {
			return added, read, fmt.Errorf("line %d: %w", read+1, err)
		}
		read++
		new, err := s.add(ctx, e)
		if err != nil {
			return added, read, fmt.Errorf("line %d: %w", read, err)
		}
		if new {
			added++
		}
	}
}

func (s *Store) add(ctx context.Context, e exported) (bool, error) {
	if _, err := s.Get(ctx, e.ID); !errors.Is(err, app.ErrNotFound) {
		return false, err
	}
	i := e.Instance.instance(e.ID)
	i.Rev = 0
	now := s.Now()
	if probed(i) {
		i.Due = now
	}
	if ends(i) {
		i.ChangedAt = now
		i = i.Retime(now)
	}
	event := &app.Event{
		Kind: app.EventRegistered, At: now, Service: i.Service, Instance: i.ID, To: i.State, Reason: "imported",
	}
	_, err := s.Commit(ctx, app.Change{Steps: []app.Step{{Is: i, Event: event}}})
	return err == nil, err
}
