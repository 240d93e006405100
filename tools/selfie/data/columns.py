"""Names of columns: found without regard to case and spaces, mapped by the user, guessed for a message."""

from __future__ import annotations

import difflib
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from selfie.common.errors import SelfieError

LISTED, LONGEST = 200, 100  # columns, and characters of a name, that a message has
# What the exports of other tools call our columns; written as `plain` has them.
ALIASES = {
    "id": ("shortcode", "code", "postid", "mediaid", "pk", "statusid", "tweetid", "imageid", "uuid", "key"),
    "path": ("file", "filename", "filepath", "image", "imagepath", "localpath", "photo", "picture", "img"),
    "user": ("userid", "ownerid", "username", "ownerusername", "owner", "author", "authorid", "account", "profile",
             "profilename", "userposted", "accountid", "handle", "screenname"),
    "followers": ("followerscount", "followercount", "numfollowers", "nfollowers", "edgefollowedbycount", "subscribers",
                  "userfollowers", "ownerfollowers", "authorfollowers", "followedby", "edgefollowedby"),
    "likes": ("likescount", "likecount", "numlikes", "nlikes", "edgelikedbycount", "edgemediapreviewlikecount",
              "likers", "favouritescount", "favoritescount", "favoritecount", "favourites", "favorites", "hearts",
              "edgelikedby", "likesnumber", "numberoflikes", "edgemediapreviewlike"),
    "tags": ("hashtags", "hashtag", "tag", "hashtaglist", "taglist", "keywords"),
    "posted_at": ("timestamp", "date", "createdat", "takenat", "takenattimestamp", "datetime", "dateposted", "posted",
                  "time", "createtime", "created", "postdate", "publishedat", "datepublished", "uploaddate"),
    "popularity": ("score", "popularityscore"),
    "face_count": ("faces", "facescount", "numfaces"),
    "content": ("sha256", "md5", "hash", "phash"),
    "label": ("class", "target", "y"),
    "split": ("set", "subset", "fold", "partition"),
}  # fmt: skip


def plain(name: str) -> str:
    """Write a name without case, spaces and marks: 'Posted At' is 'postedat', '[Likes]' 'likes'."""
    if not name.isascii():  # full-width letters, zero-width spaces
        name = "".join(each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) != "Cf")
    return re.sub(r"""[\s_.\-/:#'"`\[\]]+""", "", name.casefold())


KNOWN = frozenset(plain(name) for name in ALIASES) | {alias for aliases in ALIASES.values() for alias in aliases}


def find(names: Iterable[str], wanted: Iterable[str], mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find columns by our names: {ours: the file's} of those of `wanted` that are there.

    names     the file's columns
    mapping   {ours: the file's}, what the user said; it goes before equal names, and may give a column any new name
    A name is found as it is written, else without regard to case and spaces; the first such column is taken.
    SelfieError for a mapped column that the file lacks.
    """
    names, mapping = list(names), mapping or {}
    loose: dict[str, str] = {}
    for name in names:
        loose.setdefault(plain(name), name)
    found = {}
    for ours in dict.fromkeys((*wanted, *mapping)):
        theirs = mapping.get(ours, ours)
        if theirs in names:
            found[ours] = theirs
        elif plain(theirs) in loose and (ours in mapping or loose[plain(theirs)] not in mapping.values()):
            found[ours] = loose[plain(theirs)]
        elif ours in mapping:
            raise SelfieError(f"--map {ours}={theirs}: there is no column '{theirs}' (there are: {listed(names)})")
    return found


def unique(header: Iterable[str]) -> list[str]:
    """Give a number to names that stood before in a header, as polars does: likes, likes_duplicated_0."""
    names: dict[str, None] = {}
    last: dict[str, int] = {}  # a header may have thousands of empty names
    for name in header:
        new = name
        while new in names:
            last[name] = last.get(name, -1) + 1
            new = f"{name}_duplicated_{last[name]}"
        names[new] = None
    return list(names)


def repeated(header: Iterable[str]) -> list[str]:
    """Tell of each name that stands more than once in a header: the first column of that name is taken."""
    counts = Counter(name for name in header if name.strip())
    return [
        f"more than one column is called '{name}': the first is taken" for name, times in counts.items() if times > 1
    ]


def guess(ours: str, names: Collection[str]) -> str | None:
    """Guess which of a file's columns is the one that we call `ours`; None where none looks like it."""
    by_plain = {plain(name): name for name in reversed(list(names))}
    for alias in ALIASES.get(ours, ()):
        if alias in by_plain:
            return by_plain[alias]
    close = difflib.get_close_matches(plain(ours), by_plain, n=1, cutoff=0.75)
    if close:
        return by_plain[close[0]]
    return next((name for key, name in by_plain.items() if len(ours) > 3 and plain(ours) in key), None)


def missing(ours: str, names: Collection[str], path: object) -> str:
    """Say that a file has no column called `ours`, which it has, and which of them may be meant."""
    message = f"{path} has no column '{ours}' (it has: {listed(names)})"
    likely = guess(ours, names)
    return f"{message}: if '{likely}' is it, say --map {shlex.quote(f'{ours}={likely}')}" if likely else message


def listed(names: Collection[str]) -> str:
    """Write the names of all columns, for a message: the first LISTED of them, the longest cut off."""
    shown = [repr(name)[1:-1] if name.isprintable() and name else repr(name) for name in islice(names, LISTED)]
    shown = [f"{name[:LONGEST]}..." if len(name) > LONGEST else name for name in shown]
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join(shown + more) or "none"
