"""The tables of the usual receiver."""

import os
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


engine = create_engine(os.environ["YARDSTICK_DATABASE_URL"], pool_size=20, max_overflow=20)
SessionLocal = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """All tables."""


class Delivery(Base):
    """A webhook as it came, and how far its follow-up is."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[str] = mapped_column(default="received", index=True)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class CustomerAccount(Base):
    """A customer as the provider's API last told."""

    __tablename__ = "customer_accounts"

    identifier: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


if __name__ == "__main__":
    Base.metadata.create_all(engine)
