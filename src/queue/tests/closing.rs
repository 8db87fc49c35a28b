//! How the queue closes, and what it counts then.

use std::io;
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn drop_of_the_consumer_closes_and_counts() {
    let (queue, mut consumer) = open(4, 1 << 20);
    for bytes in [SHORT, LONG, SHORT] {
        push(&queue, bytes, Waiting::Never).unwrap();
    }
    take(&mut consumer).unwrap();
    take(&mut consumer).unwrap();
    consumer.sent(1);
    assert_eq!(queue.stats().queued, 2);
    thread::scope(|scope| {
        let flush = scope.spawn(|| queue.flush(Duration::MAX));
        drop(consumer);
        assert!(matches!(flush.join().unwrap(), Err(Error::Undelivered { count: 2 })));
    });
    assert!(matches!(push(&queue, SHORT, Waiting::Policy), Err(Error::Shutdown)));
    let stats = queue.stats();
    assert_eq!((stats.sent, stats.undelivered, stats.queued), (1, 2, 0));
}

#[test]
fn blocked_producer_is_released_with_the_reason() {
    for lose in [false, true] {
        let (queue, consumer) = open(1, 0);
        push(&queue, SHORT, Waiting::Never).unwrap();
        thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..4).map(|_| scope.spawn(|| push(&queue, SHORT, Waiting::Policy))).collect();
            until_a_producer_waits(&queue);
            if lose {
                consumer.close_after_loss(io::ErrorKind::BrokenPipe.into());
            } else {
                queue.shutdown.request();
            }
            for push in waiting {
                let error = push.join().unwrap().unwrap_err();
                assert_eq!(error.is_disconnected(), lose, "{error}");
                assert_eq!(matches!(error, Error::Shutdown), !lose, "{error}");
            }
        });
    }
}

#[test]
fn lost_pipe_is_the_reason_as_soon_as_the_queue_is_closed() {
    for _ in 0..500 {
        let (queue, consumer) = open(1, 0);
        thread::scope(|scope| {
            let producer = scope.spawn(|| {
                loop {
                    if let Err(closed) = queue.check_open() {
                        return closed;
                    }
                }
            });
            consumer.close_after_loss(io::ErrorKind::BrokenPipe.into());
            let error = producer.join().unwrap();
            assert!(error.is_disconnected(), "{error}");
        });
    }
}
