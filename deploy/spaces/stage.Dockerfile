# What a Hugging Face Space runs: the GPU image of deploy/Dockerfile as a public demo. README.md here says how.
FROM gpu AS space
# Spaces run containers as user 1000.
USER 0
RUN useradd --uid 1000 --user-group --create-home visitor
COPY examples /app/examples
ENV HOME=/home/visitor \
    HF_HOME=/home/visitor/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/home/visitor/torchinductor \
    GATEWAY_PORT=7860 \
    GATEWAY_PROFILE=llava-1.5-7b-4bit \
    GATEWAY_PLAYGROUND=share \
    GATEWAY_PLAYGROUND_EXAMPLES=/app/examples \
    GATEWAY_TRUSTED_PROXIES=10.0.0.0/8 \
    GATEWAY_CLIENT_ADDRESS_HEADER=x-forwarded-for
USER 1000:1000
