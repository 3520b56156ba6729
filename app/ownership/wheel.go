package ownership

// Timer is the place of one value in a Wheel. The zero value is not set. A timer belongs to one
// wheel, and must not be copied while it is set.
type Timer[T any] struct {
	next, prev *Timer[T]
	at         int64
	Value      *T
}

// Set reports whether the timer is in a wheel.
func (t *Timer[T]) Set() bool { return t.next != nil }

// At returns the time that the timer was last set to.
func (t *Timer[T]) At() int64 { return t.at }

// Wheel has timers in slots, by their times. The cost of setting, stopping and firing a timer does
// not depend on the number of timers. Times are increasing numbers of any unit. A Wheel is not safe
// for concurrent use.
type Wheel[T any] struct {
	width int64      // of a slot
	slots []Timer[T] // heads of rings
	tick  int64      // the last visited slot, counted from time 0
}

// NewWheel returns a wheel that begins at a time. It visits timers further away than width × slots
// once per turn.
func NewWheel[T any](width int64, slots int, now int64) *Wheel[T] {
	w := &Wheel[T]{width: width, slots: make([]Timer[T], slots), tick: now/width - 1}
	for n := range w.slots {
		h := &w.slots[n]
		h.next, h.prev = h, h
	}
	return w
}

// Put sets a timer to a time, also if it is set already.
func (w *Wheel[T]) Put(t *Timer[T], at int64) {
	w.Stop(t)
	t.at = at
	tick := max(at/w.width, w.tick+1) // a late timer fires with the next slot
	head := &w.slots[tick%int64(len(w.slots))]
	t.prev, t.next = head.prev, head
	head.prev.next = t
	head.prev = t
}

// Stop takes a timer out of the wheel if it is set.
func (w *Wheel[T]) Stop(t *Timer[T]) {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
}

// Advance takes each timer whose slot has begun by now out of the wheel and calls fire with it,
// oldest slot first. fire may set and stop timers.
func (w *Wheel[T]) Advance(now int64, fire func(*T)) {
	last := now / w.width
	if turn := int64(len(w.slots)); last-w.tick > turn {
		w.tick = last - turn // a single visit of each slot is enough
	}
	for w.tick < last {
		w.tick++
		head := &w.slots[w.tick%int64(len(w.slots))]
		if head.next == head {
			continue
		}
		var ring Timer[T] // the slot's timers; fire may add others to the slot
		ring.next, ring.prev = head.next, head.prev
		ring.next.prev, ring.prev.next = &ring, &ring
		head.next, head.prev = head, head
		for ring.next != &ring {
			t := ring.next
			at := t.at
			w.Stop(t)
			if at/w.width > w.tick { // it is due in a later turn
				w.Put(t, at)
				continue
			}
			fire(t.Value)
		}
	}
}
