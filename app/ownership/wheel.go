package ownership

// Timer is the place of one value in a Wheel. The zero value is not set. It belongs to
// one wheel, and must not be copied while it is set.
type Timer[T any] struct {
	next, prev *Timer[T]
	at         int64
	Value      *T
}

// Set reports whether the timer waits in a wheel.
func (t *Timer[T]) Set() bool { return t.next != nil }

// At is the time that the timer was last set to.
func (t *Timer[T]) At() int64 { return t.at }

// Wheel holds timers by their time, in slots. Setting, stopping and firing a timer costs
// the same however many there are. Times are numbers of any unit that only grow. It is
// not safe for concurrent use.
type Wheel[T any] struct {
	width int64      // of a slot
	slots []Timer[T] // heads of rings
	tick  int64      // the last slot that was gone through, counted from time 0
}

// NewWheel returns a wheel that begins at a time. Timers further away than
// width × slots are looked at once a turn.
func NewWheel[T any](width int64, slots int, now int64) *Wheel[T] {
	w := &Wheel[T]{width: width, slots: make([]Timer[T], slots), tick: now/width - 1}
	for n := range w.slots {
		h := &w.slots[n]
		h.next, h.prev = h, h
	}
	return w
}

// Put sets a timer, which may be set already.
func (w *Wheel[T]) Put(t *Timer[T], at int64) {
	w.Stop(t)
	t.at = at
	tick := max(at/w.width, w.tick+1) // late: with the next slot
	head := &w.slots[tick%int64(len(w.slots))]
	t.prev, t.next = head.prev, head
	head.prev.next = t
	head.prev = t
}

// Stop takes a timer out, if it is set.
func (w *Wheel[T]) Stop(t *Timer[T]) {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
}

// Advance takes out every timer whose slot has begun by now, and calls fire with each,
// oldest slot first. fire may set and stop timers.
func (w *Wheel[T]) Advance(now int64, fire func(*T)) {
	last := now / w.width
	if turn := int64(len(w.slots)); last-w.tick > turn {
		w.tick = last - turn // every slot once is enough
	}
	for w.tick < last {
		w.tick++
		head := &w.slots[w.tick%int64(len(w.slots))]
		if head.next == head {
			continue
		}
		var ring Timer[T] // the slot's timers, apart from those that fire puts there
		ring.next, ring.prev = head.next, head.prev
		ring.next.prev, ring.prev.next = &ring, &ring
		head.next, head.prev = head, head
		for ring.next != &ring {
			t := ring.next
			at := t.at
			w.Stop(t)
			if at/w.width > w.tick { // another turn
				w.Put(t, at)
				continue
			}
			fire(t.Value)
		}
	}
}
