package ownership

// Len returns the number of timers in the wheel.
func (w *Wheel[T]) Len() (n int) {
	for slot := range w.slots {
		head := &w.slots[slot]
		for t := head.next; t != head; t = t.next {
			n++
		}
	}
	return n
}
