# CPU image: `docker build -t inspo-benchmark .`, then for example
# docker run --rm -v "$PWD/results:/benchmark/results" inspo-benchmark python run_benchmark.py --algo inspo bc --env 'xor-*'
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /benchmark
COPY . .
# torch without CUDA
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN make setup
ENV PATH="/benchmark/.venv/bin:$PATH"
CMD ["python", "run_benchmark.py", "--help"]
