"""For uvicorn."""

from django.core.asgi import get_asgi_application
from writers import writer

from activity_tracker_hll.web.asgi import FlushOnShutdown

application = FlushOnShutdown(get_asgi_application(), writer)
