from __future__ import annotations

import threading

from rwkv_edge.video.mailbox import Mailbox


def test_the_newest_wins_and_drops_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    for number in range(5):
        box.put(number)
    assert box.get() == 4
    assert box.dropped == 4
    assert box.get(timeout_s=0.01) is None
    box.put(7)
    assert box.get() == 7
    assert box.dropped == 4


def test_a_wait_ends_when_the_box_is_closed() -> None:
    box: Mailbox[int] = Mailbox()
    got: list[int | None] = []
    thread = threading.Thread(target=lambda: got.append(box.get()))
    thread.start()
    box.close()
    thread.join(5)
    assert got == [None]
    assert box.get() is None


def test_a_wait_ends_with_an_item_of_another_thread() -> None:
    box: Mailbox[int] = Mailbox()
    threading.Timer(0.05, box.put, [3]).start()
    assert box.get(timeout_s=5) == 3
