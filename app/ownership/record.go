package ownership

import (
	"encoding/binary"
	"errors"
	"iter"
)

// Flush is the record of one shard for Redis, with the term of its owner.
type Flush struct {
	Shard  int
	Term   Term
	Record []byte // empty: the shard has no instances
}

// Progress is what the owner of a shard has in memory about an instance beside its document, or
// about a departure: a marked backend that leaves a vhost's list after its settle time. The loss of
// a Progress is harmless: its time starts again.
type Progress struct {
	ID      string // of the instance; the id of a departure contains spaces
	Changed int64  // when the state began, as in the document, in ms since 1970; another time means another state
	Elapsed int64  // how much of the state's time has passed, in ms
	Left    int64  // until an override expires, in ms; 0: no override
	Due     int64  // when the next probe is due, in ms since 1970; 0: none is
	Dispute bool   // another worker reaches the instance, and this one does not
	History []byte // packed results
}

// recordVersion is the version that is written. Version 1 had no Dispute.
const recordVersion = 2

var errRecord = errors.New("not a record of a shard")

// AppendRecord begins a record with its time, in ms since 1970 by Redis's clock.
func AppendRecord(b []byte, at int64) []byte {
	return binary.AppendVarint(append(b, recordVersion), at)
}

// Append adds the progress of an instance to a record.
func (p *Progress) Append(b []byte) []byte {
	b = appendBytes(b, p.ID)
	for _, n := range [...]int64{p.Changed, p.Elapsed, p.Left, p.Due} {
		b = binary.AppendVarint(b, n)
	}
	dispute := int64(0)
	if p.Dispute {
		dispute = 1
	}
	b = binary.AppendVarint(b, dispute)
	return appendBytes(b, string(p.History))
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ReadRecord returns the time and the content of a record. It omits unreadable parts, as if they
// had not been flushed.
func ReadRecord(b []byte) (at int64, entries iter.Seq[Progress], err error) {
	if len(b) == 0 {
		return 0, func(func(Progress) bool) {}, nil
	}
	r := reader{b: b[1:]}
	version := b[0]
	if at = r.number(); version < 1 || version > recordVersion || r.bad {
		return 0, func(func(Progress) bool) {}, errRecord
	}
	return at, func(yield func(Progress) bool) {
		for r := r; len(r.b) > 0; {
			p := Progress{ID: string(r.bytes())}
			p.Changed, p.Elapsed, p.Left, p.Due = r.number(), r.number(), r.number(), r.number()
			p.Dispute = version > 1 && r.number() != 0
			p.History = r.bytes()
			if r.bad || !yield(p) {
				return
			}
		}
	}, nil
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.b)
	if r.bad = r.bad || size <= 0; r.bad {
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) bytes() []byte {
	n, size := binary.Uvarint(r.b)
	if r.bad = r.bad || size <= 0 || n > uint64(len(r.b)-size); r.bad { //nolint:gosec // size is at most the length
		return nil
	}
	b := r.b[size : size+int(n)] //nolint:gosec // at most the length of b
	r.b = r.b[size+int(n):]      //nolint:gosec // as above
	return b
}
