"""Attachments: images and files that people upload and send with their messages."""
