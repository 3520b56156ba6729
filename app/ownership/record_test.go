package ownership_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app/ownership"
)

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := []ownership.Progress{
		{ID: "a", Changed: 1_900_000_000_123, Elapsed: 5000, Due: 1_900_000_000_999, History: []byte("123456789")},
		{ID: "b", Left: 7, Dispute: true},
		{ID: "c"},
	}
	b := ownership.AppendRecord(nil, 1_900_000_000_001)
	for _, p := range want {
		b = p.Append(b)
	}
	at, entries, err := ownership.ReadRecord(b)
	if err != nil || at != 1_900_000_000_001 {
		t.Fatalf("written at %d, %v", at, err)
	}
	empty := cmpopts.EquateEmpty()
	if diff := cmp.Diff(want, slices.Collect(entries), empty); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for cut := range b { // a record that is cut anywhere is readable, without invented entries
		_, entries, _ := ownership.ReadRecord(b[:cut])
		got := slices.Collect(entries)
		if diff := cmp.Diff(want[:len(got)], got, empty); diff != "" {
			t.Errorf("the first %d bytes (-want +got):\n%s", cut, diff)
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	p := ownership.Progress{ID: "a", Left: 1, History: []byte("y")}
	f.Add(p.Append(ownership.AppendRecord(nil, 1)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, entries, _ := ownership.ReadRecord(b)
		for range entries {
			continue
		}
	})
}
