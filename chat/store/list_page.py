"""A page of a list that is kept newest first, of chats or of owners."""

from chat.core.outcomes import ListCursor
from chat.store.store import Store


class ListPage:
    """Entries as (id, score), and where the next page begins; None: there is none."""

    def __init__(self, entries: list[tuple[str, str]], top: str, rising: str, more: str) -> None:
        self.entries = entries
        self.next: ListCursor | None = None
        self._top = top
        self._rising = rising
        if more == rising:
            self._go_on_after(entries[-1])
        elif more:  # to those that have moved up since the first page
            self.next = ListCursor(top, more, top, "")

    def shorten(self, count: int) -> None:
        """Leave all entries but the first `count` to the next page."""
        if count < len(self.entries):
            self.entries = self.entries[:count]
            self._go_on_after(self.entries[-1])

    def _go_on_after(self, entry: tuple[str, str]) -> None:
        chat_id, score = entry
        self.next = ListCursor(self._top, self._rising, score, chat_id)


def read_list_page(store: Store, key: str, limit: int, after: ListCursor | None) -> ListPage:
    """At most `limit` entries of the list under `key`; raises StoreUnavailable."""
    after = after or ListCursor("", "0", "", "")
    top, more, found = store.run(
        "chats",
        {"chats": key},
        limit=limit,
        top=after.top,
        last_score=after.score,
        last_id=after.id,
        rising=after.rising,
    )
    ids, scores = ([part.decode() for part in found[at::2]] for at in (0, 1))
    return ListPage(list(zip(ids, scores, strict=True)), top.decode(), after.rising, more.decode())
