"""The stage of the drills on plain hosts: releases behind a real Caddy, pushed and run by the real program."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from backout.config import Environment, load
from backout.twin.home import HOSTS
from backout.twin.hosts.stage import HostsStage
from backout.twin.stage import ENVIRONMENT
from backout.wiring.caddy import open_home
from backout.wiring.drills.homes import OnHosts

from drillbook import BAD, PACE, Drillbook
from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from backout.twin.stage import Stage

NOWHERE = "postgres://nobody@127.0.0.1:1/none"


class HostsDrillbook(Drillbook):
    """As on Cloudflare; a version is a release, and the ledger beside the releases is what lists deployments."""

    home: ClassVar[str] = HOSTS
    listed: ClassVar[int] = OnHosts.listed

    def _make_stage(self, folder: Path) -> Stage:
        self._hosts = OnHosts(folder, PACE)
        return self._hosts.stage

    def forget_remarks(self) -> None:
        """As on Cloudflare; and have no releases left of the drills before, which would go on running."""
        super().forget_remarks()
        self.make_good_live()
        file = self.stage.config_file
        releases = open_home(
            load(Environment({}), start=file.parent, path=file, environment=ENVIRONMENT)
        ).make_releases()
        for each in releases.read():
            if each.id not in (self.good, self.bad):
                releases.remove(each.id)

    def deploy(self, variant: str) -> str:
        """Push a variant, and return the release; one that is unwell is made live by hand."""
        return self._hosts.deploy(variant)

    def deploy_bad_again(self) -> str:
        """Make a new release of the bad one's code live past `backout release push`, which refuses that code."""
        tools = self.trial().tools()
        assert tools.rollback.bundles is not None
        again = tools.rollback.bundles.upload(tools.rollback.bundles.fetch(self.bad), message="arranged").id
        tools.deployments.activate(again, message="pushed")
        return again

    def upload_sick(self) -> str:
        """Return a release that cannot reach its database; it is not live."""
        return self._push("good", DATABASE_URL=NOWHERE)

    def upload_nameless(self, version: str) -> str:
        """Push a release like this one whose answers do not say which release they are of, and return it."""
        return self._push(BAD if version == self.bad else "good", RELEASE="")

    def rotate(self, name: str, value: str) -> None:
        """Have another value of a secret in a new release of the live code."""
        file = self.directory / "rotated.env"
        write_private(file, f"{name}={value}\n")
        how = ("--from-file", str(file), "-m", "rotated", "--no-wait", "--confirm", "production")
        done = self.trial().run("secrets", "push", *how)
        assert done.code == 0, done.err

    def remove_secret(self, name: str) -> None:
        """Have a new release of the live code without a secret."""
        self._hosts.remove_secret(name)

    def _push(self, variant: str, **variables: str) -> str:
        """Push a variant, and return the release; one that is not well gets no visitors."""
        stage = self.stage
        assert isinstance(stage, HostsStage)
        pushed = stage.push(variant, variables)
        assert pushed.is_there, pushed.said
        return pushed.release
