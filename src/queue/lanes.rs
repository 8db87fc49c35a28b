//! The lanes: the channels that hold the events, and the merge that takes them out in order.
//!
//! One channel for all producers makes every core contend for its tail. So the queue has a few
//! channels, its lanes. A producer puts its events into its own lane, and into the others while its own
//! lane is full.
//!
//! # Number and choice
//!
//! [`count`] decides how many lanes a queue has. [`Lanes::home`] decides which lane a thread uses
//! first, from the number in `thread.rs`. `push_elsewhere` decides which lanes it tries then. `home`
//! needs a power of two. The pool (`pool.rs`) has a shelf for each lane, and `lending.rs` finds the
//! shelf of a thread by `home` as well. The consumer returns buffers lane by lane (`consumer.rs`).
//!
//! # Order
//!
//! If one emit returned before another began, its event must be taken first. Each event carries a
//! ticket, drawn from one counter just before the event goes in. The writer works in passes. It
//! reads the counter once (the cut). Then it always takes the event with the smallest ticket from the
//! heads of the lanes, until no event below the cut is left.
//!
//! Let emit A return before emit B begins, and let B's ticket be below the cut.
//!
//! * A was in its lane before B drew its ticket. B drew before the writer read the cut, and the writer
//!   looks into the lanes after that. So the writer does not overlook A. (B's draw releases, and the
//!   reading of the cut acquires.)
//! * Let E be A itself, or any event ahead of A in its lane. E drew its ticket before it reserved its
//!   slot. E reserved its slot before A did, and A returned before B drew. So E's ticket is smaller than
//!   B's, and the merge takes A and all events ahead of A before B. (A fence after E's draw and a fence
//!   after A's reservation order the two draws, whatever the channel does.)
//!
//! Events of emits that overlap may be taken in either order. If an event has drawn its ticket and is
//! not in its lane yet, its emit has not returned. The merge does not wait for such an event.

use crate::sync::{
    AtomicU64, Ordering, Receiver, Sender, TryRecvError, TrySendError, bounded, fence,
};
use crate::wire::event::EventTail;

/// More lanes than this do not help one writer.
const MAX_LANES: usize = 4;
/// With fewer slots, a fast producer fills its lane within one linger.
const MIN_LANE_SLOTS: usize = 2048;

/// An event in a lane.
///
/// It has cache lines of its own: a slot takes 320 bytes, 64 of them for the channel's stamp. When slots
/// were packed into 256 bytes, producers with neighbouring slots wrote to the same cache line.
#[repr(align(64))]
pub(crate) struct Event {
    /// Drawn by [`Lanes::draw`].
    ticket: u64,
    pub(crate) tail: EventTail,
}

impl Event {
    /// An event whose tail is not written yet.
    #[inline]
    pub(crate) fn blank() -> Self {
        Self { ticket: 0, tail: EventTail::blank() }
    }

    #[inline]
    pub(super) fn new(tail: EventTail) -> Self {
        Self { ticket: 0, tail }
    }
}

/// A queue of at least this many events is freed on a thread of its own: the end of a session must
/// not wait for it.
const FREED_LATER: usize = 1 << 17;

/// The producers' ends.
pub(super) struct Lanes {
    inputs: Vec<Sender<Event>>,
    tickets: Tickets,
    gone: Gone,
    capacity: usize,
}

/// On a cache line of its own, since every producer writes it.
#[repr(align(128))]
struct Tickets(AtomicU64);

/// About how many tickets belong to events that have left the lanes. The writer stores this number once for
/// each pass. On a cache line of its own, since producers read it.
#[repr(align(128))]
struct Gone(AtomicU64);

/// How many lanes a queue of this capacity has on this machine: a power of two. The queue's tests
/// and models do not call it, because they choose the number with `with_lanes`.
pub(super) fn count(capacity: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = cores.min(MAX_LANES).min(capacity / MIN_LANE_SLOTS).max(1);
    1 << most.ilog2()
}

/// Makes `count` lanes, which together hold `capacity` events.
pub(super) fn lanes(capacity: usize, count: usize) -> (Lanes, Merge) {
    let slots = |lane| capacity / count + usize::from(lane < capacity % count);
    let (inputs, outputs) = (0..count).map(|lane| bounded(slots(lane))).unzip();
    let (tickets, gone) = (Tickets(AtomicU64::new(0)), Gone(AtomicU64::new(0)));
    (Lanes { inputs, tickets, gone, capacity }, Merge::new(outputs))
}

impl Lanes {
    /// The lane of the thread with this number.
    #[inline]
    pub(super) fn home(&self, thread: usize) -> usize {
        // The number of lanes is a power of two.
        thread & (self.inputs.len() - 1)
    }

    /// Draws a ticket for an event, just before it is put in.
    #[inline]
    pub(super) fn draw(&self, event: &mut Event) {
        if self.inputs.len() > 1 {
            // Release: see the module's documentation. No producer reads what another releases here.
            event.ticket = self.tickets.0.fetch_add(1, Ordering::Release);
            fence(Ordering::Release);
        }
    }

    /// Puts an event that has its ticket into the lane `home`, or into another lane if that one is full.
    /// Returns whether it used another lane, or the event if all lanes are full.
    #[expect(clippy::inline_always, reason = "a call would copy the event")]
    #[inline(always)]
    pub(super) fn try_push(&self, home: usize, event: Event) -> Result<bool, Event> {
        match self.inputs[home].try_send(event) {
            Ok(()) => Ok(false),
            Err(full) => self.push_elsewhere(home, full),
        }
    }

    #[cold]
    fn push_elsewhere(&self, home: usize, mut full: TrySendError<Event>) -> Result<bool, Event> {
        for other in 1..self.inputs.len() {
            match self.inputs[self.home(home + other)].try_send(full.into_inner()) {
                Ok(()) => return Ok(true),
                Err(also_full) => full = also_full,
            }
        }
        // The lanes are full, or disconnected because the session has ended. The caller checks for that.
        Err(full.into_inner())
    }

    pub(super) fn count(&self) -> usize {
        self.inputs.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Events in all lanes.
    pub(super) fn len(&self) -> usize {
        self.inputs.iter().map(Sender::len).sum()
    }

    /// About how many events are in the lanes. A queue of several lanes does not read the channels for this:
    /// the writer changes the head of a channel with each event, and must wait if a producer has read the head.
    pub(super) fn estimate(&self) -> usize {
        if self.inputs.len() == 1 {
            // There are no tickets.
            return self.len();
        }
        let gone = self.gone.0.load(Ordering::Relaxed);
        let drawn = self.tickets.0.load(Ordering::Relaxed);
        usize::try_from(drawn.saturating_sub(gone)).unwrap_or(usize::MAX)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        drop_later(std::mem::take(&mut self.inputs), self.capacity);
    }
}

/// Drops one end of lanes of this capacity, on another thread if that takes long.
pub(super) fn drop_later(end: impl Send + 'static, capacity: usize) {
    if capacity >= FREED_LATER {
        // If the thread cannot start, the closure is dropped here, and `end` with it.
        let thread = std::thread::Builder::new().name("wedr-cleanup".into());
        let _ = thread.spawn(move || drop(end));
    }
}

/// The writer's ends: takes the events of all lanes out in one order.
pub(super) struct Merge {
    lanes: Vec<Lane>,
    /// Events with this ticket or a later one wait for the next pass.
    cut: u64,
    /// The next event is taken from this lane while its ticket is below `limit`.
    current: usize,
    /// At most the cut. No event at the head of another lane has a ticket below this limit.
    limit: u64,
}

struct Lane {
    events: Receiver<Event>,
    /// The event at the head of this lane, taken out to see its ticket.
    head: Option<Event>,
    /// Events that were taken from this lane.
    taken: u64,
}

impl Merge {
    fn new(lanes: Vec<Receiver<Event>>) -> Self {
        let lanes = lanes.into_iter().map(|events| Lane { events, head: None, taken: 0 });
        Self { lanes: lanes.collect(), cut: 0, current: 0, limit: 0 }
    }

    /// Begins a pass. The last pass of a session takes everything, whatever its ticket.
    pub(super) fn begin(&mut self, lanes: &Lanes, is_last: bool) {
        // With one lane there are no tickets.
        self.cut = if self.lanes.len() == 1 || is_last {
            u64::MAX
        } else {
            lanes.tickets.0.load(Ordering::Acquire)
        };
        self.current = 0;
        self.limit = if self.lanes.len() == 1 { u64::MAX } else { 0 };
        if self.lanes.len() > 1 {
            for lane in &mut self.lanes {
                lane.take_head();
            }
        }
    }

    /// Ends a pass, and corrects the estimate. Until then a ticket whose push failed counts as an event.
    pub(super) fn end(&self, lanes: &Lanes) {
        // Acquire: a push that ended before the last of these draws is visible in its lane.
        let drawn = lanes.tickets.0.load(Ordering::Acquire);
        let queued = self.lanes.iter().map(|lane| lane.events.len() as u64).sum();
        lanes.gone.0.store(drawn.saturating_sub(queued), Ordering::Relaxed);
    }

    /// Hands the next event of this pass to `put`; false if there is none.
    #[inline]
    pub(super) fn take(&mut self, put: impl FnOnce(&mut Event)) -> bool {
        let lane = &mut self.lanes[self.current];
        if self.limit > 0 {
            match lane.events.try_recv() {
                Ok(mut event) if event.ticket < self.limit => {
                    lane.taken += 1;
                    put(&mut event);
                    return true;
                }
                Ok(event) => lane.head = Some(event),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) if self.lanes.len() == 1 => {
                    return false;
                }
                Err(_) => {}
            }
        }
        self.take_from_another(put)
    }

    fn take_from_another(&mut self, put: impl FnOnce(&mut Event)) -> bool {
        let (mut first, mut second) = ((u64::MAX, None), u64::MAX);
        for (index, lane) in self.lanes.iter().enumerate() {
            if let Some(event) = &lane.head {
                if event.ticket < first.0 {
                    second = first.0;
                    first = (event.ticket, Some(index));
                } else {
                    second = second.min(event.ticket);
                }
            }
        }
        let (ticket, Some(index)) = first else {
            self.limit = 0;
            return false;
        };
        if ticket >= self.cut {
            self.limit = 0;
            return false;
        }
        self.current = index;
        self.limit = second.min(self.cut);
        let lane = &mut self.lanes[index];
        if let Some(event) = &mut lane.head {
            put(event);
        }
        lane.head = None;
        lane.taken += 1;
        true
    }

    /// Events in the lanes and at their heads.
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.events.len()).sum::<usize>() + self.heads()
    }

    /// How many lanes have an event at their head.
    pub(super) fn heads(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.head.is_some()).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.head.is_none() && lane.events.is_empty())
    }

    /// For each lane, the value of `taken` at which all events that are in it now have been taken.
    pub(super) fn target(&self) -> Vec<u64> {
        let target =
            |lane: &Lane| lane.taken + lane.events.len() as u64 + u64::from(lane.head.is_some());
        self.lanes.iter().map(target).collect()
    }

    pub(super) fn has_reached(&self, target: &[u64]) -> bool {
        self.lanes.iter().zip(target).all(|(lane, target)| lane.taken >= *target)
    }
}

impl Lane {
    fn take_head(&mut self) {
        if self.head.is_none() {
            self.head = self.events.try_recv().ok();
        }
    }
}
