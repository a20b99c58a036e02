"""Serving a study: the web server in this process, until it is stopped."""

import argparse

from facesr.opinion.app import create_app
from facesr.opinion.opening import opened
from facesr.web.serving import log_to_stderr, run_server


def serve(options: argparse.Namespace) -> None:
    """Serves the study until it is stopped; every answer is stored before the next question is sent."""
    log_to_stderr()
    with opened(options.folder) as (study, database):
        app = create_app(study, database, trusted_proxy=options.behind_proxy)
        print(f"{study.settings.title}: http://{options.host}:{options.port} (Ctrl-C stops it)", flush=True)
        run_server(app, options.host, options.port, trusted_proxy=options.behind_proxy)
