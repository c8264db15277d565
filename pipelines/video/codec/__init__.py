"""The only room that knows a codec: FFmpeg, through PyAV."""
