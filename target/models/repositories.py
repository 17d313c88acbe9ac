"""Arguments of the commands on repositories. A repository's secrets are no arguments: the daemon never sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from target.models.forms import Arguments, Form, Says

RepositoryName = Annotated[str, Form("a repository's name", "a repository's name: letters, digits and . _ - only, at most 64",
                                     "^[A-Za-z0-9][A-Za-z0-9._-]*$", 1, 64)]
Url = Annotated[str, Form("a URL", "a URL", None, 1, 1024)]
Path = Annotated[str, Form("a path", "an absolute path", "^/", 1, 1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryAdd(Arguments):
    """Remember a repository."""

    name: Annotated[RepositoryName, Says(argument=True)]
    url: Annotated[Url, Says(argument=True)]
    key_file: Annotated[Path | None, Says("Where its key is.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRemove(Arguments):
    """Forget a repository. What is in it stays."""

    name: Annotated[RepositoryName, Says(argument=True)]
