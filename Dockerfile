# The function as Cloud Run runs it, for any other place. No secret is in it: settings come with `docker run`.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PORT=8080
WORKDIR /app

COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes --requirement requirements.txt \
    && useradd --system --no-create-home chatkeep
COPY main.py .
COPY chat chat
RUN python -m compileall -q chat main.py

USER chatkeep
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "\
import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=2)"]
# `exec`: the server itself gets the signal to end.
CMD ["sh", "-c", "exec functions-framework --target=main --host=0.0.0.0 --port=${PORT}"]
