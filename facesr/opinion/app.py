"""A study as a web application: its pages behind `facesr.web.security.Guard`."""

import time
from collections.abc import Callable

from fastapi import FastAPI

from facesr.opinion import pages
from facesr.opinion.site import RATES, Site, refused
from facesr.opinion.study import Study
from facesr.web.database import Database
from facesr.web.faults import add_faults
from facesr.web.security import SMALL_BODY_BYTES, Guard, Rates, log_requests_to_stderr


def create_app(
    study: Study,
    database: Database,
    *,
    trusted_proxy: bool = False,
    rates: Rates = RATES,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Returns the web application of a study.

    Args:
        study: its folder.
        database: of the study; its tables are up to date. The caller closes it.
        trusted_proxy: whether a proxy before the study says who asks (the last X-Forwarded-For) and how
            (X-Forwarded-Proto).
        rates: how much visitors may ask.
        clock: seconds since 1970.

    Raises:
        FaceSRError: the secret or a picture is missing, or a language's file is wrong.
    """
    study.check_pictures()
    site = Site(study, database, rates, clock)
    log_requests_to_stderr()
    app = FastAPI(title=study.settings.title, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.site = site
    app.include_router(pages.router)
    add_faults(app, lambda scope, refusal: refused(site, scope, refusal))
    app.add_middleware(
        Guard,
        answer=lambda scope, refusal: refused(site, scope, refusal),
        body_limit=lambda scope: SMALL_BODY_BYTES,
        metrics=site.metrics,
        rates=rates,
        trusted_proxy=trusted_proxy,
        logs_clients=False,
    )
    return app
